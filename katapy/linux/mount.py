"""mount(2) and umount2(2) by way of the C library: file systems for host and guest. Runs in the supervisor and in the
agent.

Paths are passed to the kernel as they stand: no symlink is resolved here, nothing is created. Every failure is an
OSError that carries errno and the target's path.
"""

import ctypes
import os

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000

MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """Mounts `source` on `target`; an empty `fstype` or `data` means none. Raises OSError (errno, path = target)."""
    status = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode() if fstype else None,
        flags,
        os.fsencode(data) if data else None,
    )
    if status != 0:
        _raise(target)


def umount(target: str, flags: int = 0) -> None:
    """Unmounts what is mounted last on `target`. Raises OSError (errno, path = target)."""
    if _libc.umount2(os.fsencode(target), flags) != 0:
        _raise(target)


def _raise(target: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), target)
