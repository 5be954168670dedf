"""What an evil agent can do without end, a class for each attack. Part of the evil agent's process (evil_agent.py)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from framework.evil_lies import Answer, HonestAgent, exited
from katapy.protocol import agent_pb2 as pb
from katapy.protocol import names


class FloodsStdout(HonestAgent):
    async def output(self, context: Any) -> AsyncIterator[Answer]:
        while not self.killed.is_set():
            yield pb.StdioOutput(stdout=b"x" * 65536)
        yield exited(137)


class FloodsBig(HonestAgent):
    """As large as a message may be."""

    async def output(self, context: Any) -> AsyncIterator[Answer]:
        while not self.killed.is_set():
            yield pb.StdioOutput(stdout=b"x" * (names.MAX_MESSAGE - 64))
        yield exited(137)


class FloodsNothing(HonestAgent):
    """Messages that say nothing, as fast as they go."""

    async def output(self, context: Any) -> AsyncIterator[Answer]:
        while not self.killed.is_set():
            yield b""
        yield exited(137)


class FloodsEvents(HonestAgent):
    async def Events(self, request: bytes, context: Any) -> AsyncIterator[Answer]:
        while True:
            yield pb.Event(oom=pb.OomEvent(container_id="c1", kills=2**64 - 1))
            yield pb.Event()


class NeverReads(HonestAgent):
    """stdin stays in the channel."""

    async def _drain(self, requests: AsyncIterator[bytes]) -> None:
        await asyncio.Event().wait()
