"""Memory that is larger than what may be used of it, with real stores."""

import ctypes
import errno
import mmap
import os
import signal

import pytest

from katapy.linux.bounded_memory import BoundedMemory

MIB = 1024 * 1024
ROOM = 512 * MIB


def store(memory: BoundedMemory, offset: int, size: int) -> int:
    """The end of a process that fills `size` bytes from `offset`: 0, or the signal that it died of."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
        mapped = mmap.mmap(os.open(f"/proc/self/fd/{memory.fd}", os.O_RDWR), ROOM)
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(mapped, offset)), 1, size)
        os._exit(0)
    return abs(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def test_no_more_than_its_bound_can_be_used_wherever_it_lies() -> None:
    memory = BoundedMemory(ROOM, 2 * MIB)
    try:
        assert os.fstat(memory.fd).st_size == ROOM
        assert store(memory, ROOM - MIB, MIB) == 0
        assert store(memory, 64 * MIB, 2 * MIB) == signal.SIGBUS
        memory.bound(4 * MIB)
        assert store(memory, 128 * MIB, MIB) == 0
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            memory.bound(MIB)
        os.truncate(memory.fd, 0)
        os.truncate(memory.fd, ROOM)
        memory.bound(0)
        assert store(memory, 0, MIB) == signal.SIGBUS
    finally:
        memory.close()
        memory.close()
