"""Calls about the pod's network. Runs in the agent."""

import asyncio
import contextlib
import socket
from typing import Any

import grpc.aio

from katapy.agent.machine import Machine
from katapy.agent.pod_namespace import in_pod
from katapy.errors import NotFound, SpecError
from katapy.linux.tcp import reset_on_close
from katapy.protocol import agent_pb2 as pb
from katapy.protocol import names

END: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # not in the stub
CONNECT_S = 10.0


class NetworkCalls:
    machine: Machine

    async def UpdateNetwork(self, request: pb.UpdateNetworkRequest, context: Any) -> pb.Empty:
        await self.machine.network.update(request)
        return pb.Empty()

    async def Dial(self, requests: Any, context: Any) -> None:
        first = await context.read()
        if first is END or first.WhichOneof("message") != "open":
            raise SpecError("the first message of a dial stream must be `open`")
        with await _connect(first.open.address, first.open.port) as connection:
            try:
                await context.write(pb.DialOutput(connected=pb.Empty()))
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_receive(connection, context))
                    tasks.create_task(_send(connection, context))
            except BaseException:
                reset_on_close(connection)
                raise


async def _connect(address: bytes, port: int) -> socket.socket:
    """Raises SpecError, NotFound if nobody listens there."""
    if len(address) not in (4, 16) or not 0 < port < 65536:
        raise SpecError(f"port {port} of an address of {len(address)} bytes can't be dialled")
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    with in_pod():
        connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        async with asyncio.timeout(CONNECT_S):
            target = (socket.inet_ntop(family, address), port)
            await asyncio.get_running_loop().sock_connect(connection, target)
    except (OSError, TimeoutError) as e:
        connection.close()
        raise NotFound(f"nobody listens on port {port} in the guest: {e}") from e
    except BaseException:
        connection.close()
        raise
    return connection


async def _receive(connection: socket.socket, context: Any) -> None:
    """From the guest's server to the host. The host's flow control is what makes it wait."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(connection, names.STDIO_CHUNK):
        await context.write(pb.DialOutput(data=data))
    await context.write(pb.DialOutput(end=pb.Empty()))


async def _send(connection: socket.socket, context: Any) -> None:
    """From the host to the guest's server."""
    loop = asyncio.get_running_loop()
    while (message := await context.read()) is not END and message.WhichOneof("message") == "data":
        await loop.sock_sendall(connection, message.data)
    with contextlib.suppress(OSError):  # it may be closed on the other side already
        connection.shutdown(socket.SHUT_WR)
