"""127.0.0.1 of the pod's namespace on the host is the guest's: every connection there is carried to the guest.

Supervisor only. Bounded: that many connections at a time, the next ones are reset.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Coroutine

from katapy.agent_client.client import AgentClient
from katapy.agent_client.dial import carry
from katapy.errors import errno_text
from katapy.linux.tcp import reset_on_close
from katapy.network.loopback import Loopback, original_destination

MAX_CONNECTIONS = 64
_ACCEPT_PAUSE_S = 0.5
log = logging.getLogger(__name__)


class Forwarder:
    """Owns the listeners. In the running loop."""

    def __init__(self, agent: AgentClient, loopback: Loopback) -> None:
        self._agent = agent
        self._loopback = loopback
        self._connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        for listener in loopback.listeners:
            self._spawn(self._accept(listener), listener)

    def close(self) -> None:
        """Ends every connection, and then the listeners. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        self._loopback.table.close()

    def _spawn(self, work: Coroutine[None, None, None], used: socket.socket) -> None:
        """`used` is closed after `work`. Not before: the loop still watches it, and a descriptor that gets its number
        would never be heard of (selectors.modify leaves epoll alone where the events are the same)."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: used.close())

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as e:  # no descriptor to be had: so for a moment
                log.warning("connections to the pod's 127.0.0.1 wait: %s", errno_text(e))
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            connection.setblocking(False)
            if self._connections >= MAX_CONNECTIONS:
                reset_on_close(connection)
                connection.close()
            else:
                self._connections += 1
                self._spawn(self._carry(connection), connection)

    async def _carry(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):  # it was closed before anybody asked where it was to go
                await carry(self._agent, connection, *original_destination(connection))
        finally:
            self._connections -= 1
