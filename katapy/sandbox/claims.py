"""Ids of a pod's containers while they are made, and while an attempt to make one is taken back. Supervisor only.

A `create` may be cut short at any moment, and be asked for again at once: what the first one undoes, by its id, must
not be the second one's.
"""

import asyncio
from collections.abc import Container, Coroutine

from katapy.errors import AlreadyExists


class Claims:
    """Of one sandbox, in the running loop."""

    def __init__(self) -> None:
        self._made: set[str] = set()
        self._undone: dict[str, asyncio.Task[None]] = {}

    async def take(self, container_id: str, existing: Container[str]) -> None:
        """The id is the caller's alone until `give_back`. Waits while it is undone; raises AlreadyExists."""
        while container_id in self._undone:
            await asyncio.wait([self._undone[container_id]])
        if container_id in existing or container_id in self._made:
            raise AlreadyExists("container with given ID already exists")
        self._made.add(container_id)

    def give_back(self, container_id: str) -> None:
        self._made.discard(container_id)

    async def undo(self, container_id: str, work: Coroutine[None, None, None]) -> None:
        """Does `work` to its end, also when the caller is cancelled."""
        task = self._undone[container_id] = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._undone.pop(container_id))
        await asyncio.shield(task)
