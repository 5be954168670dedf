"""Exits and OOM kills on their way to the one subscriber. Runs in the agent's event loop."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from katapy.protocol import agent_pb2 as pb

LIMIT = 1024
"""Events kept for a subscriber that is slow or not there yet; the oldest go first."""

EventQueue = asyncio.Queue[pb.Event | None]
"""None: another subscriber has come."""


class Events:
    """A queue that outlives its subscribers, so that a channel that breaks loses little."""

    def __init__(self) -> None:
        self._queue: EventQueue = asyncio.Queue(LIMIT)

    def exited(self, container_id: str, exec_id: str, status: int) -> None:
        self._put(pb.Event(exit=pb.ExitEvent(container_id=container_id, exec_id=exec_id, status=status)))

    def oom(self, container_id: str, kills: int) -> None:
        self._put(pb.Event(oom=pb.OomEvent(container_id=container_id, kills=kills)))

    @contextmanager
    def subscribe(self) -> Iterator[EventQueue]:
        """The events not yet delivered, and those to come. Ends the subscription before it, if there is one."""
        old, self._queue = self._queue, asyncio.Queue(LIMIT)
        while not old.empty():
            if (event := old.get_nowait()) is not None:
                self._queue.put_nowait(event)
        old.put_nowait(None)
        yield self._queue

    def _put(self, event: pb.Event) -> None:
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(event)
