"""fanotify: be asked before somebody opens a directory. Host, supervisor; needs CAP_SYS_ADMIN.

The opener waits until the answer, or until this descriptor is closed: a watcher that dies holds nobody up.
"""

import ctypes
import os
import struct

_FAN_CLOEXEC = 0x1
_FAN_NONBLOCK = 0x2
_FAN_CLASS_CONTENT = 0x4
_FAN_MARK_ADD = 0x1
_FAN_OPEN_PERM = 0x10000
_FAN_ONDIR = 0x40000000
_FAN_ALLOW = 1
_AT_FDCWD = -100
_EVENT = struct.Struct("=IBBHQii")
"""struct fanotify_event_metadata: length, version, reserved, metadata length, mask, descriptor, pid."""
_READ = 4096

_libc = ctypes.CDLL(None, use_errno=True)


class OpenWatch:
    """Watches one directory. `fd` is readable when somebody waits; owned by this object. Raises OSError."""

    def __init__(self, directory: str) -> None:
        flags = _FAN_CLASS_CONTENT | _FAN_CLOEXEC | _FAN_NONBLOCK
        self.fd = _libc.fanotify_init(flags, os.O_RDONLY | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "fanotify_init")
        mask = ctypes.c_uint64(_FAN_OPEN_PERM | _FAN_ONDIR)
        if _libc.fanotify_mark(self.fd, _FAN_MARK_ADD, mask, _AT_FDCWD, os.fsencode(directory)) != 0:
            number = ctypes.get_errno()
            os.close(self.fd)
            raise OSError(number, "fanotify_mark", directory)

    def waiting(self) -> list[int]:
        """A descriptor for each opener that waits. The caller hands every one of them to `allow`."""
        try:
            data = os.read(self.fd, _READ)
        except BlockingIOError:
            return []
        found, offset = [], 0
        while offset + _EVENT.size <= len(data):
            length, _, _, _, _, descriptor, _ = _EVENT.unpack_from(data, offset)
            found.append(descriptor)
            offset += length
        return found

    def allow(self, descriptor: int) -> None:
        """Lets the opener go on."""
        os.write(self.fd, struct.pack("=iI", descriptor, _FAN_ALLOW))
        os.close(descriptor)

    def close(self) -> None:
        """Whoever still waits goes on. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
