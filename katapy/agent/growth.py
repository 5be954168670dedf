"""Processors and memory that the machine gets while it runs: nobody else puts them to use. Runs in the agent."""

import asyncio
import errno
import os
from collections.abc import Callable

from katapy.agent import hotplug, modules
from katapy.agent.crun import spawn
from katapy.agent.reaper import Reaper
from katapy.errors import HostError, Timeout

DEADLINE_S = 20.0
_CPUS = "/sys/devices/system/cpu"
_BUSYBOX = "/usr/bin/busybox"


class Growth:
    """Of this machine."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._first = memory_bytes()
        """Before any comes: in a clone, whose driver is loaded, the kernel takes it before we are asked."""

    async def wait(self, cpus: int, more_bytes: int) -> None:
        """Returns when that many processors run and there is that much more memory than at first.

        Raises Timeout, HostError.
        """
        if more_bytes and "virtio_mem" not in modules.loaded():
            await modules.load(self._reaper, "virtio_mem")
        await _plugged(lambda: len(processors()) >= cpus, f"{cpus} processors")
        for path in sleeping(processors()):
            await self._start(path)
        if more_bytes:
            wanted = self._first + more_bytes
            await _plugged(lambda: memory_bytes() >= wanted, f"{wanted >> 20} MiB of memory")

    async def _start(self, path: str) -> None:
        """By a process of its own: the kernel makes it wait until no memory is coming or going."""
        ended = self._reaper.watch(spawn([_BUSYBOX, "sh", "-c", f"echo 1 >{path}"]))
        try:
            async with asyncio.timeout(DEADLINE_S):
                status = await asyncio.shield(ended)
        except TimeoutError as error:
            raise Timeout(f"the guest does not start the processor {path}", DEADLINE_S) from error
        if status != 0:
            raise HostError(f"the guest can't start the processor {path}")


async def _plugged(is_there: Callable[[], bool], what: str) -> None:
    """Returns when it is. Raises Timeout."""

    def check() -> None:
        if not is_there():
            raise OSError(errno.ENODEV, "not yet")

    try:
        await hotplug.when_plugged_in(check, DEADLINE_S)
    except OSError as error:
        have = f"{len(processors())} processors, {memory_bytes() >> 20} MiB"
        raise Timeout(f"the guest has not come to {what} (it has {have})", DEADLINE_S) from error


def processors(folder: str = _CPUS) -> list[str]:
    """Folders of those that are plugged in. Raises OSError."""
    return [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if name.removeprefix("cpu").isdecimal()]


def sleeping(folders: list[str]) -> list[str]:
    """The files to write to, of those that don't run."""
    files = [f"{folder}/online" for folder in folders]
    return [path for path in files if os.path.exists(path) and _text(path) == "0"]  # the first one can't be stopped


def memory_bytes() -> int:
    """MemTotal."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()
