"""One container's cgroup (v2): its files, its processes, freezing and killing them. Runs in the agent."""

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import Iterator

from katapy.agent.fdio import readable
from katapy.agent.init import CGROUP
from katapy.errors import HostError, Timeout
from katapy.linux.inotify import IN_MODIFY, Inotify

FREEZE_DEADLINE_S = 10.0
EMPTY_DEADLINE_S = 10.0


class Cgroup:
    """A directory below /sys/fs/cgroup, made by crun."""

    def __init__(self, path: str, root: str = CGROUP) -> None:
        self.directory = root + path

    def read(self, name: str) -> str:
        """A file's text without the last newline; empty if the kernel has no such file here, or the cgroup is gone."""
        try:
            with open(f"{self.directory}/{name}", encoding="utf-8") as file:
                return file.read().rstrip("\n")
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                return ""
            raise

    def write(self, name: str, value: str) -> None:
        """Raises HostError that names file and value."""
        try:
            with open(f"{self.directory}/{name}", "w", encoding="utf-8") as file:
                file.write(value)
        except OSError as error:
            raise HostError(f"cannot write {value!r} to {name}: {error.strerror}") from error

    def flat(self, name: str) -> dict[str, int]:
        """A flat keyed file such as memory.stat; empty if it does not exist."""
        return parse_flat(self.read(name))

    def pids(self) -> list[int]:
        """Every process of the cgroup and of those below it."""
        found = []
        for directory, _subdirectories, _files in os.walk(self.directory):
            with contextlib.suppress(OSError), open(f"{directory}/cgroup.procs", encoding="ascii") as file:
                found += [int(line) for line in file]
        return found

    def signal_all(self, number: int) -> None:
        """Every process of it; none left is not an error."""
        if number == signal.SIGKILL:
            with contextlib.suppress(FileNotFoundError), open(f"{self.directory}/cgroup.kill", "w") as file:
                file.write("1")
            return
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def freeze(self, frozen: bool) -> None:
        """Freezes or thaws, and returns when it is so. Raises HostError, Timeout."""
        wanted = int(frozen)
        with self.watching("cgroup.events") as changed:
            self.write("cgroup.freeze", str(wanted))
            try:
                async with asyncio.timeout(FREEZE_DEADLINE_S):
                    while self.flat("cgroup.events").get("frozen") != wanted:
                        await readable(changed.fd)
                        changed.read()
            except TimeoutError:
                raise Timeout(f"cgroup {'freezing' if frozen else 'thawing'}", FREEZE_DEADLINE_S) from None

    async def emptied(self) -> None:
        """Returns when no process is left, or the cgroup is gone. Raises Timeout."""
        if not os.path.isdir(self.directory):
            return
        with self.watching("cgroup.events") as changed:
            try:
                async with asyncio.timeout(EMPTY_DEADLINE_S):
                    while self.flat("cgroup.events").get("populated", 0):
                        await readable(changed.fd)
                        changed.read()
            except TimeoutError:
                raise Timeout("end of the container's processes", EMPTY_DEADLINE_S) from None

    async def remove(self) -> None:
        """Kills what is left in it and removes it, if crun has not: a crun that is killed leaves it. Raises Timeout."""
        self.signal_all(signal.SIGKILL)
        await self.emptied()
        for directory, _subdirectories, _files in os.walk(self.directory, topdown=False):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(directory)

    @contextlib.contextmanager
    def watching(self, name: str) -> Iterator[Inotify]:
        watcher = Inotify()
        try:
            watcher.watch(f"{self.directory}/{name}", IN_MODIFY)
            yield watcher
        finally:
            watcher.close()


def parse_flat(text: str) -> dict[str, int]:
    """`key number` lines; others are left out."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if value.isdecimal():
            found[key] = int(value)
    return found
