"""The CLI's end of the control socket: one request, one answer (or a stream of them), a deadline on everything."""

import time

from katapy.control import endpoint
from katapy.control.endpoint import SupervisorGone
from katapy.control.messages import Fields, Lines, MessageError, decode_answer, encode_request
from katapy.errors import Timeout

TYPE_CHECKING = False  # typing's own constant costs typing
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

__all__ = ["REQUEST_S", "Call", "SupervisorGone", "call", "stream"]

REQUEST_S = 10.0
"""One request: a busy guest under emulation may take seconds for it."""


class Call:
    """One request that has been sent. A context manager; owns the connection, not the descriptors that were passed.

    Leaving it before the answer closes the connection: the supervisor unwinds a `create` then.
    """

    def __init__(self, path: str, op: str, fields: Fields, deadline_s: float, fds: tuple[int, ...] = ()) -> None:
        """Connects and sends. Raises SupervisorGone, Timeout, MessageError (too long), HostError."""
        self._what = f"{op} at {path}"
        self._lines = Lines()
        self._started, self._deadline_s = time.monotonic(), deadline_s
        request = encode_request(op, fields)
        self._sock = endpoint.connect(path, self._deadline)
        try:
            endpoint.send(self._sock, request, fds, self._deadline)
        except TimeoutError as e:
            self.close()
            raise self._late() from e
        except OSError as e:
            # It may have refused us and said why before it closed.
            self._broken: OSError | None = e
        else:
            self._broken = None

    @property
    def _deadline(self) -> float:
        return self._started + self._deadline_s

    def _late(self) -> Timeout:
        return Timeout(f"{self._what}: the supervisor did not answer", self._deadline_s)

    def fileno(self) -> int:
        return self._sock.fileno()

    def answer(self) -> Fields:
        """The one answer. Raises what it carries, SupervisorGone, Timeout, MessageError."""
        answer = self.next()
        if answer is None:
            raise MessageError(f"{self._what}: end of stream instead of an answer")
        return answer

    def next(self, deadline_s: float | None = None) -> Fields | None:
        """The next answer of a stream, None at its end. `deadline_s` counts from now, otherwise from the start."""
        if deadline_s is not None:
            self._started, self._deadline_s = time.monotonic(), deadline_s
        while (line := self._lines.next()) is None:
            try:
                data = endpoint.receive(self._sock, self._deadline)
            except TimeoutError as e:
                raise self._late() from e
            except OSError as e:
                raise SupervisorGone(f"{self._what}: the supervisor ended before it answered") from e
            if not data:
                raise SupervisorGone(f"{self._what}: the supervisor ended before it answered") from self._broken
            self._lines.feed(data)
        return decode_answer(line)

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def call(
    path: str, op: str, fields: Fields | None = None, *, deadline_s: float = REQUEST_S, fds: tuple[int, ...] = ()
) -> Fields:
    """Sends `op` to the supervisor at `path` and returns what it answers.

    `fds` are duplicated into the supervisor; the caller keeps its own. Raises the KatapyError that the supervisor
    answered, SupervisorGone if there is none (or it ended), Timeout after `deadline_s`, MessageError.
    """
    with Call(path, op, fields or {}, deadline_s, fds) as pending:
        return pending.answer()


def stream(
    path: str, op: str, fields: Fields | None = None, *, deadline_s: float = REQUEST_S, silence_s: float = 86400.0
) -> "Iterator[Fields]":
    """As `call`, for an op with many answers; `silence_s` bounds the wait between two of them."""
    with Call(path, op, fields or {}, deadline_s) as pending:
        while (answer := pending.next(silence_s)) is not None:
            yield answer
