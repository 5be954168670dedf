"""What an evil agent can do with a connection that is carried to the guest. Part of the evil agent's process."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from framework.evil_lies import Answer, HonestAgent
from katapy.protocol import agent_pb2 as pb

CONNECTED = pb.DialOutput(connected=pb.Empty())


class DialsHonestly(HonestAgent):
    """An echo."""

    async def Dial(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Answer]:
        yield CONNECTED
        async for request in requests:
            message = pb.DialInput.FromString(request)
            if message.WhichOneof("message") == "data":
                yield pb.DialOutput(data=message.data)
        yield pb.DialOutput(end=pb.Empty())


class DialFloods(HonestAgent):
    async def Dial(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Answer]:
        yield CONNECTED
        while True:
            yield pb.DialOutput(data=b"x" * 65536)


class DialFloodsNothing(HonestAgent):
    async def Dial(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Answer]:
        yield CONNECTED
        while True:
            yield pb.DialOutput()


class DialIsSilent(HonestAgent):
    async def Dial(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Answer]:
        await asyncio.Event().wait()
        yield CONNECTED


class DialIsNoMessage(HonestAgent):
    async def Dial(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Answer]:
        yield b"\xff" * 100


class DialSendsGarbage(HonestAgent):
    async def Dial(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Answer]:
        yield CONNECTED
        yield b"\xff" * 100


class DialDoesNotConnect(HonestAgent):
    async def Dial(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Answer]:
        yield pb.DialOutput(data=b"who asked?")
        yield CONNECTED


class DialEndsWithoutAWord(HonestAgent):
    async def Dial(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Answer]:
        yield CONNECTED


class DialNeverReads(HonestAgent):
    async def Dial(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Answer]:
        yield CONNECTED
        await asyncio.Event().wait()
