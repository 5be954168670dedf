"""Namespaces by name: join, unshare, host name, controlling terminal.

Any process of host or guest; os has these from 3.12 only.
"""

import contextlib
import ctypes
import fcntl
import os
import termios
from collections.abc import Iterator

CLONE_FLAGS = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
    "time": 0x00000080,
}
"""By the names of the runtime-spec (linux.namespaces[].type)."""

SHOWN = frozenset({"network", "uts", "ipc"})
"""Those of a stand-in that stand for the container's: joined where the spec names a path, new where it does not."""

_ENTRIES = {"mount": "mnt", "network": "net"}

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(kinds: list[str]) -> None:
    """Leaves the caller's namespaces of these kinds for new ones. Raises OSError."""
    flags = 0
    for kind in kinds:
        flags |= CLONE_FLAGS[kind]
    if flags and _libc.unshare(flags) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"unshare {' '.join(kinds)}: {os.strerror(errno)}")


def join(kind: str, path: str) -> None:
    """Enters the namespace that `path` names; the kernel checks that it is of that kind. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(kind, fd)
    except OSError as e:
        e.filename = path
        raise
    finally:
        os.close(fd)


def enter(kind: str, fd: int) -> None:
    """`join` by a descriptor, which stays the caller's. The calling thread alone. Raises OSError."""
    if _libc.setns(fd, CLONE_FLAGS[kind]) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))


def entry(kind: str) -> str:
    """What /proc/<pid>/ns calls a namespace of this kind."""
    return _ENTRIES.get(kind, kind)


@contextlib.contextmanager
def entered(kind: str, fd: int) -> Iterator[None]:
    """The calling thread is in the namespace of `fd` for the block. Nothing may wait in it. Raises OSError."""
    own = os.open(f"/proc/thread-self/ns/{entry(kind)}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(kind, fd)
        try:
            yield
        finally:
            enter(kind, own)
    finally:
        os.close(own)


def set_hostname(name: str) -> None:
    """Of the caller's UTS namespace. Raises OSError."""
    raw = os.fsencode(name)
    if _libc.sethostname(raw, len(raw)) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"sethostname: {os.strerror(errno)}")


def set_controlling_terminal(fd: int) -> None:
    """Makes the terminal behind `fd` that of the calling session leader. Raises OSError."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
