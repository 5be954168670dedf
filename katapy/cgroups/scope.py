"""A container's cgroup that systemd makes and takes away: a transient scope. CLI only.

What `Cgroup` does, it does here too: the directories are marked as katapy's, are joined, killed and waited for in the
same way. On cgroup v1, hierarchies that systemd does not care for get a directory of that name as well, as with runc.
"""

import os
import signal

from katapy.cgroups.hierarchies import Hierarchy
from katapy.cgroups.host import REMOVE_S, Cgroup, make_directory, mark, owner_of
from katapy.cgroups.units import Unit
from katapy.errors import HostError, errno_text


class Scope(Cgroup):
    """`create` starts it, `remove` stops it."""

    def __init__(self, hierarchies: list[Hierarchy], unit: Unit, owner: str) -> None:
        super().__init__(hierarchies, unit.path, owner, unit.cgroups_path)
        self._unit = unit
        self._first: tuple[int, int] | None = None
        self._foreign = False

    def create(self) -> None:
        """A scope must have a process: until `let_go` it is one that sleeps. Raises HostError, leaves nothing then."""
        from katapy.cgroups import systemd

        self._first = _fork_sleeper()
        self._foreign = True
        try:
            systemd.start_scope(self._unit.name, self._unit.slice, self._first[0])
            self._foreign = False
            for hierarchy in self._hierarchies:
                if os.path.isdir(f"{hierarchy.mountpoint}/{self._path}"):
                    mark(f"{hierarchy.mountpoint}/{self._path}", self._owner)
                else:
                    make_directory(hierarchy, self._path, self._owner)
            self._check_thawed()
        except OSError as e:
            self.remove()
            raise HostError(f"can't create cgroup {self._path}: {errno_text(e)}") from e
        except HostError:
            self.let_go()
            raise

    def let_go(self) -> None:
        """Whoever has joined keeps it from here on; without them it ends. Idempotent."""
        if self._first is not None:
            (pid, pipe), self._first = self._first, None
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(pipe)

    def remove(self, deadline_s: float = REMOVE_S) -> None:
        """Returns when systemd has forgotten the unit too: its name can be used again. Somebody else's stays."""
        from katapy.cgroups import systemd

        self.let_go()
        there = [path for path in self.paths() if os.path.isdir(path)]
        if self._foreign or (there and not any(owner_of(path) == self._owner for path in there)):
            return
        super().remove(deadline_s)
        systemd.stop_scope(self._unit.name)


def _fork_sleeper() -> tuple[int, int]:
    """A child, and the pipe by whose end it knows of ours. Not to be called once there is a second thread."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(writing)
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.read(reading, 1)
        finally:
            os._exit(0)
    os.close(reading)
    return pid, writing
