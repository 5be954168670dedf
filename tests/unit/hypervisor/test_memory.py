"""Guest memory as a file: every byte arrives, zeros take no room, an error is an error."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katapy.hypervisor.qemu import memory

MIB = 1024 * 1024
Copy = Callable[[int, int], None]
pieces = st.lists(
    st.tuples(st.integers(0, 3 * MIB - 1), st.binary(min_size=1, max_size=64), st.integers(1, 2000)), max_size=6
)


def _file() -> int:
    return os.memfd_create("test")


@pytest.mark.parametrize("copy", [memory.copy, memory.copy_without_zeros])
@given(pieces)
def test_every_byte_arrives(copy: Copy, written: list[tuple[int, bytes, int]]) -> None:
    source, target = _file(), _file()
    try:
        os.ftruncate(source, 3 * MIB + 5000)
        for offset, data, times in written:
            os.pwrite(source, data * times, offset)
        copy(source, target)
        size = os.fstat(source).st_size
        assert os.pread(target, size + 1, 0) == os.pread(source, size, 0).ljust(size, b"\0")
        assert os.fstat(target).st_blocks <= os.fstat(source).st_blocks
    finally:
        os.close(source)
        os.close(target)


def test_pages_of_zeros_become_holes() -> None:
    source, target = _file(), _file()
    os.pwrite(source, bytes(4 * MIB) + b"x" + bytes(2 * MIB), 0)
    memory.copy_without_zeros(source, target)
    assert os.fstat(target).st_blocks * 512 == 4096
    os.close(source)
    os.close(target)


def test_only_a_hole_up_to_the_end_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, offset: int, how: int) -> int:
        raise OSError(number, "")

    monkeypatch.setattr(os, "lseek", fail)
    number = errno.ENXIO
    assert list(memory.extents(0, 100)) == []
    number = errno.EIO
    with pytest.raises(OSError, match=r"\[Errno 5\]"):
        list(memory.extents(0, 100))


def test_a_file_that_becomes_shorter_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory").write_bytes(b"x" * 8192)
    source, target = os.open(tmp_path / "memory", os.O_RDONLY), _file()
    monkeypatch.setattr(os, "sendfile", lambda *_: 0)
    with pytest.raises(OSError, match="shorter"):
        memory.copy(source, target)
    os.close(source)
    os.close(target)


def test_new_memory_is_for_one_user() -> None:
    fd = memory.new_memory(2, os.geteuid())
    status = os.fstat(fd)
    assert (status.st_size, status.st_mode & 0o777, status.st_blocks) == (2 * MIB, 0o600, 0)
    os.close(fd)
