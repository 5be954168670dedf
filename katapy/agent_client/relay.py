"""A unix socket that leads to the agent's vsock port: PyPI's grpcio is compiled without vsock. Supervisor only.

The byte pump knows nothing of either end, so that it is tested over socket pairs where there is no vsock.
"""

import asyncio
import contextlib
import errno
import logging
import os
import random
import socket
from collections.abc import Awaitable, Callable, Coroutine

from katapy.errors import HypervisorError
from katapy.linux.socket_path import short_name
from katapy.protocol import names

_CHUNK = 256 * 1024
log = logging.getLogger(__name__)

_RETRY_S = 0.02
_LONGEST_RETRY_S = 0.2
_PORTS = range(1, names.PRIVILEGED_PORTS)

Dial = Callable[[], Awaitable[socket.socket]]


class Relay:
    """Listens on `path` (0600) in the running loop; every connection is pumped to one that `dial` makes."""

    def __init__(self, path: str, dial: Dial) -> None:
        self._dial = dial
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        with short_name(path) as name:
            self._listener.bind(name)
            os.chmod(name, 0o600)
        self._listener.listen(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn(self._accept())

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(self._listener)
            self._spawn(self._serve(connection))

    async def _serve(self, near: socket.socket) -> None:
        near.setblocking(False)
        with near:
            try:
                far = await self._dial()
            except (OSError, HypervisorError) as e:
                log.warning("no connection to the agent: %s", e)
                return  # grpc sees its connection closed and reports the agent as unavailable
            with far:
                try:
                    await join(near, far)
                except OSError as e:
                    log.warning("the connection to the agent has failed: %s", e)

    async def close(self) -> None:
        """Ends every connection. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()  # not while the loop watches it


async def join(one: socket.socket, other: socket.socket) -> None:
    """Pumps both ways between non-blocking stream sockets until both directions have ended. Raises OSError."""
    await asyncio.gather(_pump(one, other), _pump(other, one))


async def _pump(source: socket.socket, target: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(source, _CHUNK):
            await loop.sock_sendall(target, data)
    except ConnectionError as e:
        log.info("a connection to the agent was cut: %s", e)
    with contextlib.suppress(OSError):  # the other direction may have found the end first
        target.shutdown(socket.SHUT_WR)


def _bind_privileged(sock: socket.socket) -> None:
    """To a port that only root can have, by which the guest knows us. Raises HypervisorError when all are in use."""
    for port in random.sample(_PORTS, len(_PORTS)):
        try:
            sock.bind((socket.VMADDR_CID_ANY, port))
            return
        except OSError as e:
            if e.errno != errno.EADDRINUSE:
                raise
    raise HypervisorError(f"all {len(_PORTS)} privileged vsock ports of this host are in use, one for every machine")


def vsock_dial(cid: int, port: int, deadline_s: float) -> Dial:
    """Connects to the guest's port, again and again until it listens or `deadline_s` has passed (HypervisorError)."""

    async def attempt() -> socket.socket:
        sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            _bind_privileged(sock)
            await asyncio.get_running_loop().sock_connect(sock, (cid, port))
        except BaseException:
            sock.close()
            raise
        return sock

    async def dial() -> socket.socket:
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        pause = _RETRY_S
        while True:
            try:
                return await attempt()
            except (ConnectionError, TimeoutError) as e:
                if loop.time() > end:
                    raise HypervisorError(f"the agent does not listen on vsock port {port} of context {cid}") from e
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, _LONGEST_RETRY_S)  # a guest that boots slowly has no use for a busy host

    return dial
