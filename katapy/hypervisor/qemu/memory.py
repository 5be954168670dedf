"""Guest memory as a file: made, saved without its zeros, copied without its holes. Runs in the CLI (templates) and in
the supervisor.

QEMU opens it as /proc/self/fd/N, so the inode's own mode decides: nobody needs a path.
"""

import errno
import os
from collections.abc import Iterator

from katapy.errors import HostError, errno_text

_PAGE = 4096
_CHUNK = 1024 * 1024
_ZEROS = bytes(_CHUNK)
MIB = 1024 * 1024


def new_memory(size_mib: int, uid: int) -> int:
    """An empty memory of that size that only `uid` may open. The caller owns the descriptor. Raises HostError."""
    try:
        fd = os.memfd_create("guest-memory", os.MFD_CLOEXEC)
        os.ftruncate(fd, size_mib * MIB)
        os.fchmod(fd, 0o600)
        os.fchown(fd, uid, uid)
    except OSError as e:
        raise HostError(f"can't make {size_mib} MiB of guest memory: {errno_text(e)}") from e
    return fd


def extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Start and end of what is not a hole. Raises OSError."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:  # nothing but a hole from here on
                return
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def copy(source: int, target: int) -> None:
    """Makes `target`, an empty file, as big as `source`, with the same bytes and at least its holes. Raises OSError."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    for start, end in extents(source, size):
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            count = os.sendfile(target, source, start, end - start)
            if count == 0:
                raise OSError(errno.EIO, "the file became shorter")
            start += count


def copy_without_zeros(source: int, target: int) -> None:
    """As `copy`, with a hole for every page of zeros. Raises OSError."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    for start, end in extents(source, size):
        while start < end:
            data = os.pread(source, min(_CHUNK, end - start), start)
            if not data:
                raise OSError(errno.EIO, "the file became shorter")
            if data != _ZEROS[: len(data)]:
                _write_pages(target, data, start)
            start += len(data)


def _write_pages(target: int, data: bytes, offset: int) -> None:
    """Runs of pages that are not all zeros."""
    zero = _ZEROS[:_PAGE]
    begin = None
    for place in range(0, len(data) + _PAGE, _PAGE):
        page = data[place : place + _PAGE]
        blank = page == zero[: len(page)]
        if not blank and begin is None:
            begin = place
        elif blank and begin is not None:
            _write_all(target, data[begin:place], offset + begin)
            begin = None


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
