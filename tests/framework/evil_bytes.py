"""Peers that are no gRPC server at all: what they send where an agent would be. Part of the evil agent's process."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

MIB = 1024 * 1024

_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"pingpong"
_ONE_SETTING = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00" + b"\x00\x03\xff\xff\xff\xff"
_GOAWAY = b"\x00\x40\x00\x07\x00\x00\x00\x00\x00" + b"\x7f\xff\xff\xff\x00\x00\x00\x02" + b"\nforged line\x1b[2J" * 1024
_GOAWAY = _GOAWAY[: 9 + 0x4000]
_FIELDS = b"\x00\x01a\x01b" * 3276 + b"\x00\x01a\x00"
_HEADERS_OPEN = b"\x00\x40\x00\x01\x00\x00\x00\x00\x01" + _FIELDS
_CONTINUATION = b"\x00\x40\x00\x09\x00\x00\x00\x00\x01" + _FIELDS

RAW: dict[str, tuple[bytes, bytes]] = {
    # name -> what is sent first, and what is then sent for ever (nothing: the connection closes)
    "raw-closes": (b"", b""),
    "raw-garbage": (random.Random(2).randbytes(MIB), b""),
    "raw-http1": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno\n", b""),
    "raw-endless": (b"", random.Random(3).randbytes(65536)),
    "raw-zeros": (b"", b"\x00" * 65536),
    "raw-frame-of-16-mib": (_SETTINGS + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", b"A" * 65536),
    "raw-pings": (_SETTINGS, _PING * 4096),
    "raw-settings": (_SETTINGS, _ONE_SETTING * 4096),
    "raw-goaways": (_SETTINGS, _GOAWAY),
    "raw-headers-without-end": (_SETTINGS + _HEADERS_OPEN, _CONTINUATION),
}
RAW_SILENT = "raw-silent"


async def serve_raw(path: str, attack: str, announce: Callable[[], Any]) -> None:
    """Does `attack` to whoever connects to the unix socket `path`; `announce` is called once it listens."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if attack == RAW_SILENT:
                await asyncio.Event().wait()
            first, then = RAW[attack]
            writer.write(first)
            await writer.drain()
            while then:
                writer.write(then)
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(handle, path)
    announce()
    await server.serve_forever()
