"""A file in memory that takes no more than it is allowed, however large it says it is. Runs in the supervisor.

It is alone in a tmpfs that is mounted nowhere, whose size is the bound: who stores into a page beyond gets SIGBUS, and
whoever reads or writes by a system call EFAULT or ENOSPC. A memfd has no such bound, and one that is only as long as
allowed is refused by virtiofsd, which maps all of it. Linux 5.2 or newer, root.
"""

import mmap
import os

from katapy.linux.syscall import syscall

_WHAT = "tmpfs"
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_SYS_FSPICK = 433

_CLOEXEC = 1
_FSPICK_EMPTY_PATH = 8
_SET_STRING = 1
_CMD_CREATE = 6
_CMD_RECONFIGURE = 7
_NOBODY_BY_PATH = 0o666
"""QEMU opens it anew by /proc/self/fd, under a user of its own; no path leads here."""


class BoundedMemory:
    """Owns `fd`, the file of `size` bytes, and the file system. Raises OSError."""

    def __init__(self, size: int, bound: int) -> None:
        context = syscall(_WHAT, _SYS_FSOPEN, b"tmpfs", _CLOEXEC)
        try:
            _configure(context, _CMD_CREATE, bound)
            self._mount = syscall(_WHAT, _SYS_FSMOUNT, context, _CLOEXEC, 0)
        finally:
            os.close(context)
        try:
            self.fd = os.open("memory", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._mount)
            os.fchmod(self.fd, _NOBODY_BY_PATH)
            os.truncate(self.fd, size)
        except BaseException:
            os.close(self._mount)
            raise

    def bound(self, size: int) -> None:
        """At most `size` bytes from now on. Raises OSError (EINVAL) if more are in use."""
        context = syscall(_WHAT, _SYS_FSPICK, self._mount, b"", _CLOEXEC | _FSPICK_EMPTY_PATH)
        try:
            _configure(context, _CMD_RECONFIGURE, size)
        finally:
            os.close(context)

    def close(self) -> None:
        """Whoever has mapped the file keeps it, with its bound. Idempotent."""
        for fd in {self.fd, self._mount} - {-1}:
            os.close(fd)
        self.fd = self._mount = -1


def _configure(context: int, command: int, size: int) -> None:
    size = max(size, mmap.PAGESIZE)  # tmpfs(5): a size of 0 is no bound at all
    syscall(_WHAT, _SYS_FSCONFIG, context, _SET_STRING, b"size", b"%d" % size, 0)
    syscall(_WHAT, _SYS_FSCONFIG, context, command, None, None, 0)
