"""The supervisor's end of the control socket: accepts, checks who is there, dispatches, answers. asyncio.

One request per connection. A handler is `async def handler(fields, descriptors) -> dict`, or an async generator of
dictionaries for a stream. It raises KatapyErrors to refuse; any other exception is logged and answered as one line.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from katapy.control.endpoint import peer
from katapy.control.messages import (
    MAX_DESCRIPTORS,
    Fields,
    Lines,
    MessageError,
    decode_request,
    encode,
    encode_error,
)
from katapy.errors import KatapyError, Unsupported

log = logging.getLogger(__name__)

REQUEST_ARRIVES_S = 10.0
"""A client sends its line at once; one that does not is broken."""
ACCEPT_PAUSE_S = 0.1
"""Out of descriptors: the listener stays readable, so pause instead of spinning."""
_CHUNK = 262144

T = TypeVar("T")


class Descriptors:
    """Descriptors that came with a request. Those that the handler does not take are closed after it."""

    def __init__(self) -> None:
        self._fds: list[int] = []

    def __len__(self) -> int:
        return len(self._fds)

    def take(self, index: int) -> int:
        """The descriptor, once; the caller owns it from here. Raises MessageError if it did not come (or was taken)."""
        if not 0 <= index < len(self._fds) or self._fds[index] < 0:
            raise MessageError(f"the request came without its descriptor {index}")
        fd, self._fds[index] = self._fds[index], -1
        return fd

    def rest(self, first: int) -> list[int]:
        """Those from `first` on; they stay here, and are closed after the handler."""
        return self._fds[first:]

    def add(self, fds: list[int]) -> None:
        self._fds += fds

    def close(self) -> None:
        while self._fds:
            fd = self._fds.pop()
            if fd >= 0:
                os.close(fd)


Handler = Callable[[Fields, Descriptors], Awaitable[Fields] | AsyncGenerator[Fields, None]]


@dataclass(frozen=True, slots=True)
class Operation:
    """A handler, and whether it is cancelled when the client goes away (streams always are)."""

    handler: Handler
    cancel_on_disconnect: bool = False


class ControlServer:
    """Serves `listener` (from endpoint.listen) in the running loop. Owns the listener and its connections."""

    def __init__(self, listener_fd: int, operations: Mapping[str, Operation], owner_uid: int = 0) -> None:
        """`listener_fd`: a listening unix socket, taken over. `owner_uid`: the only user that is served."""
        self._listener = socket.socket(fileno=listener_fd)
        self._listener.setblocking(False)
        self._operations = operations
        self._owner_uid = owner_uid
        self._connections: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._accepting = asyncio.get_running_loop().create_task(self._accept(), name="control accept")

    async def close(self, grace_s: float = 5.0) -> None:
        """Accepts no more, lets running requests answer for `grace_s`, cancels the rest. Idempotent."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        self._listener.close()
        connections = self._connections - {asyncio.current_task()}
        if connections:
            _, late = await asyncio.wait(connections, timeout=grace_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError:
                log.exception("control socket: accept")
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            task = loop.create_task(self._serve(connection), name="control request")
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _serve(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        descriptors = Descriptors()
        with connection:
            try:
                answer = await self._answer(connection, descriptors)
            except KatapyError as e:
                answer = encode_error(e)
            except Exception as e:
                log.exception("control request failed")
                answer = encode_error(KatapyError(f"internal error of the supervisor: {type(e).__name__}: {e}"))
            finally:
                descriptors.close()
            try:
                await _send(connection, answer)
            except MessageError as e:
                log.debug("control answer: %s", e)

    async def _answer(self, connection: socket.socket, descriptors: Descriptors) -> bytes:
        _check_peer(connection, self._owner_uid)
        try:
            async with asyncio.timeout(REQUEST_ARRIVES_S):
                op, fields = decode_request(await _read_line(connection, descriptors))
        except TimeoutError as e:
            raise MessageError("the request did not arrive in time") from e
        operation = self._operations.get(op)
        if operation is None:
            raise Unsupported(f"the supervisor does not know the operation {op!r}")
        result = operation.handler(fields, descriptors)
        if isinstance(result, AsyncGenerator):
            await _until_disconnect(connection, _send_all(connection, result))
            return encode({"end": {}})
        if operation.cancel_on_disconnect:
            return encode({"ok": await _until_disconnect(connection, result)})
        return encode({"ok": await result})


def _check_peer(connection: socket.socket, owner_uid: int) -> None:
    _, uid, _ = peer(connection)
    if uid != owner_uid:
        raise KatapyError(f"the control socket serves user {owner_uid} only, not {uid}")


async def _readable(sock: socket.socket) -> None:
    """Returns when `sock` has something to read, or has ended."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, wake)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


async def _read_line(connection: socket.socket, descriptors: Descriptors) -> bytes:
    lines = Lines()
    while (line := lines.next()) is None:
        await _readable(connection)
        data, fds, flags, _ = socket.recv_fds(connection, _CHUNK, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        descriptors.add(fds)
        if flags & socket.MSG_CTRUNC or len(descriptors) > MAX_DESCRIPTORS:
            raise MessageError(f"a request may carry {MAX_DESCRIPTORS} descriptors")
        if not data:
            raise MessageError("the client ended before its request was whole")
        lines.feed(data)
    if lines.rest():
        raise MessageError("a connection carries one request")
    return line


async def _until_disconnect(connection: socket.socket, work: Awaitable[T]) -> T:
    """Awaits `work`; cancels it when the client closes its connection, and raises MessageError then."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_readable(connection))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise MessageError("the client has gone")
        return task.result()
    finally:
        for pending in (gone, task):
            if pending.cancel():
                await asyncio.wait([pending])


async def _send_all(connection: socket.socket, answers: AsyncGenerator[Fields, None]) -> None:
    async with aclosing(answers):
        async for answer in answers:
            await _send(connection, encode({"ok": answer}))


async def _send(connection: socket.socket, line: bytes) -> None:
    try:
        async with asyncio.timeout(REQUEST_ARRIVES_S):
            await asyncio.get_running_loop().sock_sendall(connection, line)
    except (OSError, TimeoutError) as e:
        raise MessageError("the client did not wait for its answer") from e
