"""127.0.0.1 of the pod's namespace on the host is the guest's: every connection there is carried to the guest.

Supervisor only. Bounded: that many connections at a time, the next ones are reset.
"""

import asyncio
import socket
import struct
from collections.abc import Coroutine

from katapy.agent_client.client import AgentClient
from katapy.agent_client.dial import carry
from katapy.network.loopback import Loopback, original_destination

MAX_CONNECTIONS = 64
_RESET = struct.pack("ii", 1, 0)


class Forwarder:
    """Owns the listeners. In the running loop."""

    def __init__(self, agent: AgentClient, loopback: Loopback) -> None:
        self._agent = agent
        self._loopback = loopback
        self._connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        for listener in loopback.listeners:
            self._spawn(self._accept(listener))

    def close(self) -> None:
        """Ends every connection. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        self._loopback.close()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setblocking(False)
            if self._connections >= MAX_CONNECTIONS:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.close()
            else:
                self._connections += 1
                self._spawn(self._carry(connection))

    async def _carry(self, connection: socket.socket) -> None:
        try:
            await carry(self._agent, connection, *original_destination(connection))
        except OSError:  # it was closed before anybody asked where it was to go
            connection.close()
        finally:
            self._connections -= 1
