"""inotify by way of the C library: being told that files change instead of looking again and again. Host and guest.

cgroup v2 announces changes of `memory.events` and `cgroup.events` this way (IN_MODIFY).
"""

import ctypes
import os
import struct

IN_MODIFY = 0x2
IN_CREATE = 0x100

_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class Inotify:
    """One inotify descriptor, non-blocking and closed on exec; owns it until `close`."""

    def __init__(self) -> None:
        self.fd: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            _raise("inotify")

    def watch(self, path: str, mask: int) -> int:
        """Watches `path`; returns the watch's number. Raises OSError (errno, path)."""
        watch: int = _libc.inotify_add_watch(self.fd, os.fsencode(path), mask)
        if watch < 0:
            _raise(path)
        return watch

    def unwatch(self, watch: int) -> None:
        """Ends a watch. A watch whose file is gone has ended by itself: not an error."""
        _libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> list[tuple[int, int]]:
        """What has happened, as (watch, mask); empty when nothing has."""
        try:
            data = os.read(self.fd, 16384)
        except BlockingIOError:
            return []
        found = []
        offset = 0
        while offset < len(data):
            watch, mask, _cookie, name_length = _EVENT.unpack_from(data, offset)
            found.append((watch, mask))
            offset += _EVENT.size + name_length
        return found

    def close(self) -> None:
        os.close(self.fd)


def _raise(path: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), path)
