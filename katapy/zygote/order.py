"""What a supervisor is told to be: the body of a request, and the rest of that conversation. Runs in the supervisor."""

import os
import socket
from dataclasses import dataclass

import msgspec

from katapy.errors import errno_text
from katapy.supervisor.launch import Task
from katapy.zygote import wire

PATIENCE_S = 3.0
"""`create` sends it all at once, and waits no longer either."""
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Order:
    """`environment`: the caller's."""

    task: Task
    environment: tuple[tuple[bytes, bytes], ...]


def encode(order: Order) -> bytes:
    """Raises ValueError for a path that is not UTF-8."""
    return msgspec.msgpack.encode(order)


def decode(body: bytes) -> Order:
    """Raises wire.Malformed."""
    try:
        return msgspec.msgpack.decode(body, type=Order)
    except msgspec.MsgspecError as e:
        raise wire.Malformed(f"the order is malformed: {e}") from e


class Caller:
    """The connection to whoever ordered a supervisor. Owns it; the calls wait, and raise OSError, wire.Malformed."""

    def __init__(self, connection: socket.socket, size: int) -> None:
        self._connection = connection
        self._size = size
        connection.settimeout(PATIENCE_S)

    def order(self) -> Order:
        if not 0 < self._size <= wire.MAX_BODY:
            raise wire.Malformed(f"an order has no {self._size} bytes")
        body = bytearray()
        while len(body) < self._size:
            data = self._connection.recv(min(_CHUNK, self._size - len(body)))
            if not data:
                raise wire.Malformed("the order ends too soon")
            body += data
        return decode(bytes(body))

    def accept(self, warm: bool) -> tuple[int, int]:
        """Says that this process is the supervisor, and whether it has a machine that was kept warm.

        The listening socket and the lifeline, the caller's from now on.
        """
        self._connection.sendall(wire.answer({"pid": os.getpid(), "warm": warm}))
        data, fds, _, _ = socket.recv_fds(self._connection, 1, 2)
        self._connection.close()
        if data != wire.GO or len(fds) != 2:
            for fd in fds:
                os.close(fd)
            raise wire.Malformed("`create` has changed its mind")
        listener, lifeline = fds
        return listener, lifeline

    def refuse(self, error: Exception) -> None:
        """`create` goes on without us. Never raises."""
        reason = errno_text(error) if isinstance(error, OSError) else str(error)
        try:
            self._connection.sendall(wire.answer({"refused": reason or type(error).__name__}))
        except OSError:
            pass  # it has gone, then
        self._connection.close()


def live_as(order: Order) -> Task:
    """Takes the environment on; what is to be done."""
    os.environb.clear()
    os.environb.update(order.environment)
    return order.task
