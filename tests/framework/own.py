"""What this process, in which the host side runs, holds itself. Runs in pytest."""

import contextlib
import ctypes
import gc
import os
from pathlib import Path


class Memory:
    """How much this process grew at its peak since `Memory()`, in MiB."""

    def __init__(self) -> None:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        self._before = self._peak_kib()

    @property
    def growth_mib(self) -> float:
        return (self._peak_kib() - self._before) / 1024

    @staticmethod
    def _peak_kib() -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
        raise AssertionError("no VmHWM in /proc/self/status")


def open_descriptors() -> dict[int, str]:
    """Number -> what it is, of this process; without epoll and eventfd: those are grpc's own affair."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return {fd: what for fd, what in found.items() if not what.startswith("anon_inode:[event")}
