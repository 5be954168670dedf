"""Opening a block device of the host, for QEMU, which may not. Supervisor only."""

import errno
import os
import stat

from katapy.errors import HostError, errno_text

_PROTECTED = (errno.EACCES, errno.EPERM, errno.EROFS)


def open_block(path: str, major: int, minor: int, readonly: bool) -> tuple[int, bool]:
    """A descriptor (the caller's) of the device of that number, and whether it is read-only: as asked, or because the
    device is. Raises HostError."""
    try:
        fd, readonly = _open(path, readonly)
    except OSError as e:
        raise HostError(f"open block device {path}: {errno_text(e)}") from e
    found = os.fstat(fd)
    if not stat.S_ISBLK(found.st_mode) or found.st_rdev != os.makedev(major, minor):
        os.close(fd)
        raise HostError(f"open block device {path}: it is not the device {major}:{minor}")
    return fd, readonly


def _open(path: str, readonly: bool) -> tuple[int, bool]:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    if not readonly:
        try:
            return os.open(path, flags | os.O_RDWR), False
        except OSError as e:
            if e.errno not in _PROTECTED:
                raise
    return os.open(path, flags | os.O_RDONLY), True
