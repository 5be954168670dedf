"""Netlink, as little of it as katapy speaks: messages, attributes, requests with their answers. Host and guest.

By hand, because it runs once per container on the host and once in an emulated guest, where an import costs seconds
(docs/decisions/0004-netlink.md). Standard library only; `delete` imports it too, so no dataclasses.
Layout: linux/netlink.h. Numbers are the host's byte order unless a protocol says otherwise.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

ROUTE = 0
NETFILTER = 12
"""Netlink families (protocols of the socket)."""

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
_NLM_F_DUMP_INTR = 0x10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_SOL_NETLINK, _NETLINK_EXT_ACK, _NETLINK_CAP_ACK = 270, 11, 10
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSGERR_ATTR_MSG = 1
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF

_RECEIVE = 256 * 1024
"""Bytes of one read: the kernel fills at most 32 KiB of a dump into one."""
_ANSWER_S = 10
"""The kernel answers at once; without an end a defect would be a hang."""
_DUMP_TRIES = 10


class Message(NamedTuple):
    """`kind` is the message type, `body` what follows the header."""

    kind: int
    flags: int
    sequence: int
    body: bytes


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """A string attribute, with its NUL."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def attributes(data: bytes) -> dict[int, bytes]:
    """Payloads by type; of several of one type the last."""
    return dict(attribute_list(data))


def attribute_list(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload, in order. What is cut off at the end is left out."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4 or at + length > len(data):
            return
        yield kind & _TYPE_MASK, data[at + 4 : at + length]
        at += (length + 3) & ~3


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


def messages(data: bytes) -> Iterator[Message]:
    """What a datagram holds."""
    at = 0
    while at + 16 <= len(data):
        length, kind, flags, sequence, _port = struct.unpack_from("=IHHII", data, at)
        if length < 16 or at + length > len(data):
            return
        yield Message(kind, flags, sequence, data[at + 16 : at + length])
        at += (length + 3) & ~3


class Netlink:
    """A netlink socket of the network namespace that the caller is in now, and stays in it. Owns its descriptor."""

    def __init__(self, family: int = ROUTE, groups: int = 0) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        try:
            self._socket.bind((0, groups))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _ANSWER_S, 0))
            for option in (_NETLINK_EXT_ACK, _NETLINK_CAP_ACK):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
        except BaseException:
            self._socket.close()
            raise
        self._sequence = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def __enter__(self) -> "Netlink":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, kind: int, body: bytes, flags: int = 0) -> None:
        """Does something; returns when the kernel has acknowledged it. Raises OSError with the kernel's words."""
        sequence = self._send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body)
        for answer in self._answers(sequence):
            if answer.kind == _NLMSG_ERROR:
                _raise_error(answer)
                return

    def batch(self, parts: list[tuple[int, int, bytes]], begin: bytes, end: bytes) -> None:
        """A transaction of nf_tables: (kind, flags, body) of each part; `begin` and `end` are whole messages.

        Raises OSError of the first part that was refused.
        """
        first = self._sequence + 1
        packed = []
        for kind, flags, body in parts:
            self._sequence += 1
            packed.append(message(kind, NLM_F_REQUEST | NLM_F_ACK | flags, self._sequence, body))
        self._socket.send(begin + b"".join(packed) + end)
        for sequence in range(first, self._sequence + 1):
            for answer in self._answers(sequence):
                if answer.kind == _NLMSG_ERROR:
                    _raise_error(answer)
                    break

    def dump(self, kind: int, body: bytes) -> list[Message]:
        """Everything of a kind, as it was at one moment. Raises OSError."""
        for _ in range(_DUMP_TRIES):
            found, changed = self._dump(kind, body)
            if not changed:
                break
        return found

    def _dump(self, kind: int, body: bytes) -> tuple[list[Message], bool]:
        """Also whether things changed meanwhile, so that some may be missing."""
        sequence = self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, body)
        found: list[Message] = []
        changed = False
        for answer in self._answers(sequence):
            changed |= bool(answer.flags & _NLM_F_DUMP_INTR)
            if answer.kind == _NLMSG_ERROR:
                _raise_error(answer)
            if answer.kind in (_NLMSG_DONE, _NLMSG_ERROR):
                break
            found.append(answer)
        return found, changed

    def drain(self) -> None:
        """Reads and forgets what multicast groups have sent, without waiting; an overflow counts as read."""
        while True:
            try:
                self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as e:
                if e.errno != errno.ENOBUFS:
                    raise

    def _send(self, kind: int, flags: int, body: bytes) -> int:
        self._sequence += 1
        self._socket.send(message(kind, flags, self._sequence, body))
        return self._sequence

    def _answers(self, sequence: int) -> Iterator[Message]:
        """Messages to that request, for ever: the caller knows which is the last."""
        while True:
            data = self._socket.recv(_RECEIVE)
            yield from (m for m in messages(data) if m.sequence == sequence)


def _raise_error(answer: Message) -> None:
    """Of an NLMSG_ERROR: nothing if its number is 0."""
    number = -struct.unpack_from("=i", answer.body)[0]
    if number == 0:
        return
    words = ""
    if answer.flags & _NLM_F_ACK_TLVS and answer.flags & _NLM_F_CAPPED:
        said = attributes(answer.body[20:]).get(_NLMSGERR_ATTR_MSG, b"")
        words = said.rstrip(b"\0").decode(errors="replace")
    raise OSError(number, f"{os.strerror(number)}{f' ({words})' if words else ''}")
