"""A TCP connection of the host, carried on by the agent to a server in the guest. Supervisor only.

What the guest sends waits until the host's side has taken what came before: one message is in memory, and what grpc's
flow control lets in. Whatever goes wrong resets the connection.
"""

import asyncio
import contextlib
import socket
from typing import Any

import grpc.aio

from katapy.agent_client.client import AgentClient
from katapy.agent_client.replies import believed
from katapy.errors import AgentError, KatapyError
from katapy.linux.tcp import reset_on_close
from katapy.protocol import agent_pb2 as pb
from katapy.protocol import names

END: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # not in the stub
_CONNECT_S = 20.0
"""From the question to the guest's word that somebody listens; its own deadline is half of it."""


async def carry(agent: AgentClient, connection: socket.socket, address: bytes, port: int) -> bool:
    """Until both directions have ended: True; False if it was reset. Closes `connection`, which is non-blocking."""
    call = agent.dial()
    complete = False
    try:
        await _open(call, pb.DialTarget(address=address, port=port))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_receive(call, connection))
            tasks.create_task(_send(call, connection))
        complete = True
    except* (OSError, KatapyError, grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
        complete = False
    finally:
        call.cancel()
        if not complete:
            with contextlib.suppress(OSError):
                reset_on_close(connection)
        connection.close()
    return complete


async def _open(call: Any, target: pb.DialTarget) -> None:
    """Raises KatapyError, grpc's errors, TimeoutError."""
    async with asyncio.timeout(_CONNECT_S):
        await call.write(pb.DialInput(open=target))
        message = await call.read()
    if message is END or believed(message).WhichOneof("message") != "connected":
        raise AgentError("the guest did not connect")


async def _receive(call: Any, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while (message := await call.read()) is not END:
        kind = believed(message).WhichOneof("message")
        if kind == "end":
            connection.shutdown(socket.SHUT_WR)
            return
        if kind == "data":
            await loop.sock_sendall(connection, message.data)
    raise AgentError("the guest ended the stream before its data's end")


async def _send(call: Any, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(connection, names.STDIO_CHUNK):
        await call.write(pb.DialInput(data=data))
    await call.done_writing()
