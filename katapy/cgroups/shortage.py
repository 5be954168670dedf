"""Tells engines of an out-of-memory kill in the guest where they look for one: in the host's cgroup. Supervisor only.

containerd's shim (for CRI's reason OOMKilled), Docker and Podman's conmon have the kernel tell them of shortages in the
cgroup of the container's process, which is the stand-in here and never grows. So a child of ours runs short in it: for
as long as that takes, the cgroup's limit lies a little above its usage. Nobody else there is killed.
"""

import contextlib
import ctypes
import mmap
import os
import select
import signal
from collections.abc import Iterator

from katapy.cgroups.host import Cgroup, join, read_file, write_file
from katapy.errors import HostError, errno_text

_ROOM = 4 << 20
"""Bytes from the usage to the limit, for who else is in the cgroup."""
_MEAL = 512 << 20
"""Bytes that the child takes at most: the kernel first takes back what it can (page cache)."""
_PAGE = 4096
_STARVED_S = 0.2
"""Then it ends by itself: while it waits for memory, so may we, if we are in the same cgroup."""
_END_S = 5.0
_PR_SET_PDEATHSIG = 1


def note_kill(cgroup: Cgroup) -> None:
    """Returns when the kernel has told of it. Blocks for up to a tenth of a second. Raises HostError if there is no
    memory controller, or it did not come to that; the limit is what it was in any case."""
    for folder in cgroup.paths():
        for note, file in ((_stall, "memory.oom_control"), (_kill, "memory.max")):
            if os.path.exists(f"{folder}/{file}"):
                try:
                    with _eater(folder) as (pidfd, start):
                        note(folder, pidfd, start)
                except OSError as e:
                    raise HostError(f"make {folder} short of memory: {errno_text(e)}") from e
                return
    raise HostError(f"no memory controller in cgroup {cgroup.name}")


@contextlib.contextmanager
def _eater(folder: str) -> Iterator[tuple[int, int]]:
    """A child in that cgroup, which takes memory once it is given a byte. Its pidfd, and where to write that.

    Forked, since a supervisor may run no programs; so it is as large as we are and first in the kernel's choice.
    """
    prctl = ctypes.CDLL(None).prctl  # found before: the child has one thread, and takes no lock
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            write_file("/proc/self/oom_score_adj", "1000")
            os.read(reading, 1)
            signal.setitimer(signal.ITIMER_REAL, _STARVED_S)
            _eat()
        finally:
            os._exit(0)
    os.close(reading)
    pidfd = os.pidfd_open(pid)
    try:
        join((f"{folder}/cgroup.procs",), pid)
        yield pidfd, writing
    finally:
        os.close(writing)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)  # no error if it has ended: nobody has reaped it
        os.close(pidfd)
        os.waitpid(pid, 0)


def _eat() -> None:
    plate = mmap.mmap(-1, _MEAL, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for place in range(0, _MEAL, _PAGE):
        plate[place] = 1


def _stall(folder: str, pidfd: int, start: int) -> None:
    """v1: with the kernel's killer off, who runs short waits, and all who listen are told."""
    event = os.eventfd(0, os.EFD_CLOEXEC)
    control = os.open(f"{folder}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
    try:
        write_file(f"{folder}/cgroup.event_control", f"{event} {control}")
        limited = _limited(f"{folder}/memory.usage_in_bytes", f"{folder}/memory.limit_in_bytes")
        with _changed(f"{folder}/memory.oom_control", "1", "0"), limited:
            os.write(start, b".")
            if not _ready(event):
                raise HostError(f"nobody ran short of memory in {folder}")
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(control)
        os.close(event)


def _kill(folder: str, pidfd: int, start: int) -> None:
    """v2: the kernel kills whoever is first in its choice."""
    with _limited(f"{folder}/memory.current", f"{folder}/memory.max"):
        os.write(start, b".")
        ended = _ready(pidfd)
    died = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT) if ended else None
    if died is None or died.si_code != os.CLD_KILLED:
        raise HostError(f"the kernel killed nobody in {folder}")


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
