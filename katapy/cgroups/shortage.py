"""Tells engines of an out-of-memory kill in the guest where they look for one: in the host's cgroup. Supervisor only.

containerd's shim (for CRI's reason OOMKilled), Docker and Podman's conmon have the kernel tell them of shortages in the
cgroup of the container's process, which is the stand-in here and never grows. So a child of ours runs short in it: for
as long as that takes, the cgroup's limit lies a little above its usage. Nobody else there is killed.
"""

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator

from katapy.cgroups.host import Cgroup, join
from katapy.errors import HostError, errno_text
from katapy.linux import capabilities
from katapy.linux.proc import read_file, write_file

_ROOM = 4 << 20
"""Bytes from the usage to the limit, for who else is in the cgroup."""
_BITE = 1 << 20
_STARVED_S = 3.0
"""The kernel first takes back what it can: the page cache of the machine, if it was in the same cgroup. After that time
the child ends whatever comes, because all in the cgroup wait with it."""
_END_S = 5.0


def note_kill(cgroup: Cgroup) -> None:
    """Returns when the kernel has told of it: in tens of milliseconds, later where page cache is in the way.

    Raises HostError if there is no memory controller, or it did not come to that. The limit is then what it was before.
    """
    for folder in cgroup.paths():
        for note, file in ((_stall, "memory.oom_control"), (_kill, "memory.max")):
            if os.path.exists(f"{folder}/{file}"):
                try:
                    note(folder)
                except OSError as e:
                    raise HostError(f"make {folder} short of memory: {errno_text(e)}") from e
                return
    raise HostError(f"no memory controller in cgroup {cgroup.name}")


def _stall(folder: str) -> None:
    """v1: with the kernel's killer off, who runs short waits, and all who listen are told.

    We may be in that cgroup and wait as well, so somebody outside of it has to end this.
    """
    event = os.eventfd(0, os.EFD_CLOEXEC)
    control = os.open(f"{folder}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)

    def watch() -> None:
        join((f"{os.path.dirname(folder)}/cgroup.procs",), os.getpid())
        with _forked(lambda: _eat(folder)):
            told = _ready(event)
        os._exit(0 if told else 1)

    try:
        write_file(f"{folder}/cgroup.event_control", f"{event} {control}")
        limited = _limited(f"{folder}/memory.usage_in_bytes", f"{folder}/memory.limit_in_bytes")
        with _changed(f"{folder}/memory.oom_control", "1", "0"), limited, _forked(watch) as watcher:
            ended = _end_of(watcher)
    finally:
        os.close(control)
        os.close(event)
    if ended != (os.CLD_EXITED, 0):
        raise HostError(f"nobody ran short of memory in {folder}")


def _kill(folder: str) -> None:
    """v2: the kernel kills whoever is first in its choice."""
    with (
        _limited(f"{folder}/memory.current", f"{folder}/memory.max"),
        _forked(lambda: _eat(folder)) as eater,
    ):
        ended = _end_of(eater)
    if ended != (os.CLD_KILLED, signal.SIGKILL):
        raise HostError(f"the kernel killed nobody in {folder}")


def _eat(folder: str) -> None:
    """Takes memory in that cgroup without end, and is first in the kernel's choice: as large as we are, and more."""
    write_file("/proc/self/oom_score_adj", "1000")
    join((f"{folder}/cgroup.procs",), os.getpid())
    signal.setitimer(signal.ITIMER_REAL, _STARVED_S)
    eaten = []
    while True:
        eaten.append(b"x" * _BITE)


@contextlib.contextmanager
def _forked(life: Callable[[], None]) -> Iterator[int]:
    """A child, since a supervisor may run no programs. Its pidfd; at the end of the block it is killed and reaped."""
    pid = os.fork()
    if pid == 0:
        try:
            capabilities.die_with_parent()
            life()
        finally:
            os._exit(1)
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)  # no error if it has ended: nobody has reaped it
        os.close(pidfd)
        os.waitpid(pid, 0)


def _end_of(pidfd: int) -> tuple[int, int] | None:
    """Of a child that is not reaped: how it ended and its status. None if it did not, in time."""
    if not _ready(pidfd):
        return None
    end = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    return (end.si_code, end.si_status) if end is not None else None


def _ready(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(_END_S * 1000))


@contextlib.contextmanager
def _changed(path: str, now: str, then: str) -> Iterator[None]:
    write_file(path, now)
    try:
        yield
    finally:
        write_file(path, then)


@contextlib.contextmanager
def _limited(usage: str, limit: str) -> Iterator[None]:
    with _changed(limit, str(int(read_file(usage)) + _ROOM), read_file(limit).strip()):
        yield
