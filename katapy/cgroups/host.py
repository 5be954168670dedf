"""A container's directories in the host's cgroup hierarchies: made, joined, removed. CLI and supervisor.

Every directory that katapy makes carries an extended attribute, so that whoever removes it later, another process even,
knows which ones are katapy's: an engine's parents stay. A container's own says whose it is: containers of one id in two
state roots have the same path where their specs name none, and neither may kill the other's processes.
"""

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Sequence

from katapy.cgroups.hierarchies import Hierarchy
from katapy.errors import HostError, errno_text
from katapy.linux.proc import read_file, write_file

_MADE = "trusted.katapy"
_PARENT = "parent"
"""In place of an owner."""
REMOVE_S = 5.0
_RETRY_S = 0.01


class Cgroup:
    """A container's cgroup in all hierarchies. Nothing is touched before `create`.

    `path`: below the top of each. `owner`: whose it is, in a word that no other has. `name`: what `reopen` finds it by,
    in another process.
    """

    def __init__(self, hierarchies: list[Hierarchy], path: str, owner: str, name: str = "") -> None:
        self._hierarchies = hierarchies
        self._path = path
        self._owner = owner
        self.name = name or f"/{path}"

    def paths(self) -> tuple[str, ...]:
        """Its directory in every hierarchy."""
        return tuple(f"{h.mountpoint}/{self._path}" for h in self._hierarchies)

    def procs_files(self) -> tuple[str, ...]:
        """The files by which a process joins: it writes its pid, or 0, into each."""
        return tuple(f"{path}/cgroup.procs" for path in self.paths())

    def create(self) -> None:
        """Makes its directories and their parents; those that exist are used, but not another container's, nor one that
        processes are in, as with runc 1.2. Raises HostError, leaves nothing then."""
        self._check_owner()
        for path in self.paths():
            if found := [pid for folder, _, _ in os.walk(path) for pid in _processes(folder)]:
                raise HostError(f"container's cgroup is not empty: {len(found)} process(es) found in {path}")
        try:
            for hierarchy in self._hierarchies:
                make_directory(hierarchy, self._path, self._owner)
            self._check_owner()  # another one may have come first
            self._check_thawed()
        except OSError as e:
            self.remove()
            raise HostError(f"can't create cgroup {self._path}: {errno_text(e)}") from e
        except HostError:
            self.remove()
            raise

    def _check_owner(self) -> None:
        for path in self.paths():
            if (owner := owner_of(path)) not in ("", _PARENT, self._owner):
                raise HostError(f"container's cgroup is not empty: {path} is that of another container: {owner}")

    def _check_thawed(self) -> None:
        """All who join a frozen one stand still, and whoever waits for them waits for ever. Raises HostError."""
        for path in self.paths():
            if _frozen(path):
                raise HostError(f"container's cgroup unexpectedly frozen: {path}")

    def let_go(self) -> None:
        """All who are to be in it have joined."""

    def join(self, pid: int) -> None:
        """Moves a process in, in every hierarchy. Raises HostError."""
        try:
            join(self.procs_files(), pid)
        except OSError as e:
            raise HostError(f"can't move process {pid} into {e.filename}: {errno_text(e)}") from e

    def kill(self) -> None:
        """SIGKILL to every process in the directories that were made for it: what is there belongs to the container.
        Not to those that this pid namespace does not show."""
        for path in self.paths():
            if owner_of(path) == self._owner:
                for pid in _processes(path):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def remove(self, deadline_s: float = REMOVE_S) -> None:
        """Waits until nobody is in it, then removes it, what is below it, and empty parents that katapy made.

        Idempotent. A directory that was there before `create` stays. Raises HostError naming the processes that stayed.
        """
        until = time.monotonic() + deadline_s
        for hierarchy in self._hierarchies:
            path, top = self._path, hierarchy.mountpoint
            owner = owner_of(f"{top}/{path}")
            if owner == self._owner:
                _remove_tree(f"{top}/{path}", until)
            if owner != _PARENT:
                path = path.rpartition("/")[0]
            while path and owner_of(f"{top}/{path}") == _PARENT and _remove_empty(f"{top}/{path}"):
                path = path.rpartition("/")[0]


def join(procs_files: Sequence[str], pid: int) -> None:
    """Moves a process into the cgroups of these files. Raises OSError that names the file."""
    for name in procs_files:
        try:
            write_file(name, str(pid))
        except OSError as e:
            raise OSError(e.errno, e.strerror, name) from e


def mark(path: str, owner: str = _PARENT) -> None:
    """This directory is katapy's, and that container's. Raises OSError."""
    os.setxattr(path, _MADE, owner.encode(errors="surrogateescape"))


def make_directory(hierarchy: Hierarchy, path: str, owner: str) -> None:
    """With its parents; those that are there stay as they are. Raises OSError."""
    place, last = hierarchy.mountpoint, f"{hierarchy.mountpoint}/{path}"
    for name in path.split("/"):
        parent, place = place, f"{place}/{name}"
        if hierarchy.unified:
            _delegate(parent)
        try:
            os.mkdir(place, 0o755)
        except FileExistsError:
            continue
        mark(place, owner if place == last else _PARENT)
        if "cpuset" in hierarchy.controllers:
            _inherit_cpuset(parent, place)


def _delegate(parent: str) -> None:
    """Has the v2 controllers account below `parent`; where processes live in it that is refused: no harm done."""
    try:
        names = read_file(f"{parent}/cgroup.controllers").split()
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):
            write_file(f"{parent}/cgroup.subtree_control", f"+{name}")


def _inherit_cpuset(parent: str, child: str) -> None:
    """A new cpuset of v1 is empty, and nobody can join it."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not read_file(f"{child}/{name}").strip():
            write_file(f"{child}/{name}", read_file(f"{parent}/{name}").strip())


def owner_of(path: str) -> str:
    """Whose directory this is, as `mark` was told. Empty if it is not there, or not katapy's."""
    try:
        return os.getxattr(path, _MADE).decode(errors="surrogateescape")
    except OSError:
        return ""


def _frozen(path: str) -> bool:
    """By itself or by a cgroup above it. False where the hierarchy freezes nobody."""
    for name, words in (("freezer.state", ("FROZEN", "FREEZING")), ("cgroup.events", ("frozen 1",))):
        with contextlib.suppress(FileNotFoundError):
            return any(line in words for line in read_file(f"{path}/{name}").splitlines())
    return False


def _remove_tree(path: str, until: float) -> None:
    with contextlib.suppress(FileNotFoundError):
        with os.scandir(path) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for child in below:
            _remove_tree(child, until)
        _await_empty(path, until)


def _await_empty(path: str, until: float) -> None:
    """Removes `path` as soon as the processes in it have ended."""
    while not _remove_empty(path):
        left = until - time.monotonic()
        pids = _processes(path)
        if left <= 0:
            stayed = " ".join(map(str, pids[:10])) or "a process that has just ended, or of another pid namespace"
            raise HostError(f"can't remove cgroup {path}: Device or resource busy: {stayed}")
        if not pids or not _await_exit(pids[0], left):
            # Ended, but not yet taken off the books by the kernel, which has no event for that in v1.
            select.select([], [], [], min(_RETRY_S, left))


def _processes(path: str) -> list[int]:
    """Nobody in one that is gone: systemd removes what is empty when it likes.

    v2 lists those that this pid namespace does not show as 0, which means somebody else to every call that takes a
    pid: to kill(2), the caller's own process group.
    """
    try:
        return [pid for pid in map(int, read_file(f"{path}/cgroup.procs").split()) if pid]
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENODEV):
            return []
        raise


def _await_exit(pid: int, seconds: float) -> bool:
    """Whether it was there to be waited for."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000)) and not _zombie(pid)
    finally:
        os.close(fd)


def _zombie(pid: int) -> bool:
    """One whose other threads live on, or that nobody reaps: its pidfd is ready for ever."""
    try:
        return read_file(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def _remove_empty(path: str) -> bool:
    """Whether it is gone now. Raises OSError if it never will be."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as e:
        if e.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise HostError(f"can't remove cgroup {path}: {errno_text(e)}") from e
    return True
