"""What comes from a guest, parsed with bounds. Supervisor only.

grpc bounds the bytes of a message, not what they become: two bytes are an empty message in a list, and that is a
hundred bytes of memory. So fields are counted before protobuf sees them; only the top level has lists. And grpc logs a
traceback for what can't be parsed, as often as a guest likes: here that is an answer as well, `Malformed`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.message import DecodeError

from katapy.errors import AgentError

MAX_FIELDS = 20_000
"""A list of processes is the longest answer; the agent sends less than this."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True)
class Malformed:
    """In place of a message that is none."""

    reason: str


def believed(reply: Reply | Malformed) -> Reply:
    """Raises AgentError for what was not a message."""
    if isinstance(reply, Malformed):
        raise AgentError(f"the agent in the guest sent {reply.reason}")
    return reply


def bounded(parse: Callable[[bytes], Reply]) -> Callable[[bytes], Reply | Malformed]:
    """A parser that never raises."""

    def checked(data: bytes) -> Reply | Malformed:
        try:
            if not has_at_most(data, MAX_FIELDS):
                return Malformed(f"a message of more than {MAX_FIELDS} fields")
            return parse(data)
        except (DecodeError, IndexError):
            return Malformed("what is not a message")

    return checked


def has_at_most(data: bytes, limit: int) -> bool:
    """Whether a serialized message has no more than `limit` fields at its top level. IndexError: it is not one."""
    at = count = 0
    while at < len(data):
        count += 1
        if count > limit:
            return False
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            at = _varint(data, at)[1]
        elif kind == _BYTES:
            size, at = _varint(data, at)
            at += size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise IndexError("a group, which this protocol has none of")
    return True


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := data[at]) > 127:
        value |= (byte & 127) << shift
        shift += 7
        at += 1
        if shift > 63:
            raise IndexError("a varint of more than ten bytes")
    return value | byte << shift, at + 1


class BoundedChannel:
    """A channel as generated stubs want it, whose answers are bounded. The channel stays the caller's."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def unary_unary(self, path: str, **options: Any) -> Any:
        return self._channel.unary_unary(path, **_bounded(options))

    def unary_stream(self, path: str, **options: Any) -> Any:
        return self._channel.unary_stream(path, **_bounded(options))

    def stream_stream(self, path: str, **options: Any) -> Any:
        return self._channel.stream_stream(path, **_bounded(options))


def _bounded(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "response_deserializer": bounded(options["response_deserializer"])}
