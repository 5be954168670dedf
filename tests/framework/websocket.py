"""The client side of a streaming URL of the CRI: WebSocket with the kubelet's channels. Runs in pytest.

Each binary frame begins with a byte: 0 stdin, 1 stdout, 2 stderr, 3 error (a status in JSON), 4 resize (RFC 6455;
subprotocol v4.channel.k8s.io).
"""

import base64
import os
import socket
import struct
from types import TracebackType
from urllib.parse import urlsplit

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
_BINARY, _CLOSE = 2, 8


class Channels:
    """One connection; `timeout_s` bounds every wait. A context manager."""

    def __init__(self, url: str, protocol: str = "v4.channel.k8s.io", timeout_s: float = 90.0) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._socket = socket.create_connection((parts.hostname, parts.port or 80), timeout_s)
        key = base64.b64encode(os.urandom(16)).decode()
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: {protocol}\r\n\r\n".encode()
        )
        self._file = self._socket.makefile("rb")
        status = self._file.readline()
        assert b" 101 " in status, status
        while self._file.readline() not in (b"\r\n", b""):
            pass
        self.received: dict[int, bytes] = {}

    def send(self, channel: int, data: bytes) -> None:
        payload, mask = bytes([channel]) + data, os.urandom(4)
        assert len(payload) < 65536
        size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack(">H", len(payload))
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self._socket.sendall(bytes([0x80 | _BINARY]) + size + mask + masked)

    def receive(self) -> bool:
        """Takes one frame in; False at the end."""
        head = self._file.read(2)
        if len(head) < 2 or head[0] & 15 == _CLOSE:
            return False
        size = head[1] & 127
        if size >= 126:
            form = ">H" if size == 126 else ">Q"
            (size,) = struct.unpack(form, self._file.read(struct.calcsize(form)))
        payload = self._file.read(size)
        if payload and head[0] & 15 in (1, _BINARY):
            self.received[payload[0]] = self.received.get(payload[0], b"") + payload[1:]
        return True

    def until(self, channel: int, expected: bytes) -> None:
        """Reads until the channel's data holds `expected`. AssertionError at the end of the stream."""
        while expected not in self.received.get(channel, b""):
            assert self.receive(), self.received

    def rest(self) -> dict[int, bytes]:
        """Everything, once the other side has ended."""
        while self.receive():
            pass
        return self.received

    def __enter__(self) -> "Channels":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()
        self._socket.close()
