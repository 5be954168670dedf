"""What happens to containers while they live, for whoever follows one: statistics at intervals, kills for memory.

Supervisor only.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from katapy.errors import KatapyError
from katapy.protocol import agent_pb2 as pb
from katapy.sandbox.container import Container
from katapy.sandbox.lifecycle import Status

_LAST_STATS_S = 10.0
"""From the first refusal of statistics to the container's end, if that is why."""
_MAX_UNREAD = 1024

Call = Callable[[Coroutine[Any, Any, pb.StatsReply]], Coroutine[Any, Any, pb.StatsReply]]


class Events:
    """`call` runs a request to the guest and cuts it short when the machine dies."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._subscribers: set[asyncio.Queue[str]] = set()

    def short_of_memory(self, container_id: str) -> None:
        """A guest may flood; a subscriber that is that far behind knows enough."""
        for queue in self._subscribers:
            if not queue.full():
                queue.put_nowait(container_id)

    async def follow(self, container: Container, interval_s: float) -> AsyncIterator[tuple[str, pb.StatsReply | None]]:
        """("stats", reply) at once and every `interval_s` seconds, ("oom", None) as it happens, until the container
        ends."""
        queue: asyncio.Queue[str] = asyncio.Queue(maxsize=_MAX_UNREAD)
        self._subscribers.add(queue)
        try:
            yield "stats", await self._call(container.stats())
            while container.status is not Status.STOPPED or not queue.empty():
                try:
                    owner = await asyncio.wait_for(_next_event(queue, container), interval_s)
                except TimeoutError:
                    if (reply := await self._stats_unless_ended(container)) is not None:
                        yield "stats", reply
                    continue
                if owner == container.id:
                    yield "oom", None
        finally:
            self._subscribers.discard(queue)

    async def _stats_unless_ended(self, container: Container) -> pb.StatsReply | None:
        """None if the container has ended meanwhile: the guest may know it before its exit status has arrived."""
        try:
            return await self._call(container.stats())
        except KatapyError:
            if container.status is not Status.STOPPED:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(container.over.wait(), _LAST_STATS_S)
            if container.status is not Status.STOPPED:
                raise
            return None


async def _next_event(queue: "asyncio.Queue[str]", container: Container) -> str:
    """The container that was short of memory; empty when `container` is over."""
    event, end = asyncio.create_task(queue.get()), asyncio.create_task(container.over.wait())
    try:
        await asyncio.wait((event, end), return_when=asyncio.FIRST_COMPLETED)
        return event.result() if event.done() else ""
    finally:
        event.cancel()
        end.cancel()
