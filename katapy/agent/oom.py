"""Which containers the kernel has killed processes of for memory: `memory.events` of their cgroups, watched by inotify.

Runs in the agent's event loop.
"""

import asyncio
from collections.abc import Callable

from katapy.agent.cgroup import Cgroup
from katapy.linux.inotify import IN_MODIFY, Inotify

OomListener = Callable[[str, int], None]
"""Is told container id and number of kills so far."""


class OomWatch:
    """Owns one inotify descriptor for all containers."""

    def __init__(self, listener: OomListener) -> None:
        self._listener = listener
        self._inotify = Inotify()
        self._cgroups: dict[str, tuple[Cgroup, int]] = {}
        self._kills: dict[str, int] = {}

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._inotify.fd, self._changed)

    def watch(self, container_id: str, cgroup: Cgroup) -> None:
        """Does nothing for a cgroup without the memory controller, or one that is gone already."""
        try:
            number = self._inotify.watch(f"{cgroup.directory}/memory.events", IN_MODIFY)
        except FileNotFoundError:
            return
        self._cgroups[container_id] = (cgroup, number)
        self._kills[container_id] = 0

    def unwatch(self, container_id: str) -> None:
        if (entry := self._cgroups.pop(container_id, None)) is not None:
            self._inotify.unwatch(entry[1])
            del self._kills[container_id]

    def kills(self, container_id: str) -> int:
        """How many are known of; those of a container that has ended are."""
        return self._kills.get(container_id, 0)

    def check(self, container_id: str) -> None:
        """Tells the listener of kills that it does not know of."""
        entry = self._cgroups.get(container_id)
        kills = entry[0].flat("memory.events").get("oom_kill", 0) if entry else 0
        if kills > self._kills.get(container_id, 0):
            self._kills[container_id] = kills
            self._listener(container_id, kills)

    def _changed(self) -> None:
        numbers = {number for number, _mask in self._inotify.read()}
        for container_id, (_cgroup, number) in list(self._cgroups.items()):
            if number in numbers:
                self.check(container_id)
