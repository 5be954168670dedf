"""A user namespace that nobody lives in, for its mappings: a mount takes its ids from one. Runs in the supervisor.

It needs a process until somebody holds its descriptor. A supervisor can't execute anything, and grpc starts threads in
whatever is forked, with which no user namespace can be made. So it is a bare clone(2) that is killed again at once: it
does nothing, whatever state the interpreter is in.
"""

import ctypes
import os
import signal
from collections.abc import Sequence
from typing import NoReturn

from katapy.linux import capabilities
from katapy.linux.namespaces import CLONE_FLAGS
from katapy.linux.proc import write_file

IdRange = tuple[int, int, int]
"""First id inside, first id outside, how many."""

_SYS_CLONE = {"x86_64": 56, "aarch64": 220}
_python = ctypes.PyDLL(None, use_errno=True)
"""Unlike CDLL it keeps the interpreter's lock: the clone has no other thread that could give it back."""


def open_user_namespace(uids: Sequence[IdRange], gids: Sequence[IdRange]) -> int:
    """A descriptor (the caller's) of a new one. Raises OSError: the kernel refuses the mappings, or namespaces."""
    pid = _clone()
    try:
        for name, ranges in (("uid_map", uids), ("gid_map", gids)):
            write_file(f"/proc/{pid}/{name}", "".join(f"{inside} {outside} {n}\n" for inside, outside, n in ranges))
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _clone() -> int:
    """The pid of a child in a new user namespace, which waits for its end."""
    number = ctypes.c_long(_SYS_CLONE[os.uname().machine])
    flags = ctypes.c_long(CLONE_FLAGS["user"] | signal.SIGCHLD)
    pid = int(_python.syscall(number, flags, *[ctypes.c_long(0)] * 4))
    if pid == 0:
        _wait_for_the_end()
    if pid < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), "clone")
    return pid


def _wait_for_the_end() -> NoReturn:
    """Nothing of the parent's goes on in the clone, whatever happens."""
    try:
        capabilities.die_with_parent()
        while True:
            signal.pause()
    finally:
        os._exit(1)
