"""A virtio-serial port relayed to the server's unix socket. Runs in the agent's relay process.

A port has no connections, so they are told apart here: `read() == b""` means the host has closed its end, and an HTTP/2
preface at the start of a read means a new client, whether or not the end of the old one was noticed. What comes from
the host without a connection is dropped. Whatever the host does, `run` goes on.

One case can't be seen from here: a host that closes and opens its end before this process gets to run. What the old
connection had yet to say then reaches the new client, which fails at once; its next attempt is in order. So a client
that may come back must dial again soon (grpc.initial_reconnect_backoff_ms).
"""

import os
import select
import socket

from katapy.agent.transport.relay import EDGES, GONE, READABLE, WRITABLE, Dial, EndedError, Splicer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x04\x00\x00\x00\x00\x00"
"""Type, flags and stream of the frame that must follow a preface; its length (3 bytes) comes first."""
READ = 64 * 1024


def is_new_client(chunk: bytes) -> bool:
    """Whether a read begins a connection. The kernel never joins two of the host's buffers in one read."""
    start = len(PREFACE) + 3
    return chunk.startswith(PREFACE) and chunk[start : start + len(SETTINGS)] in (b"", SETTINGS)


class SerialRelay:
    """Owns the port's descriptor and the connection to the server."""

    def __init__(self, port: int, dial: Dial) -> None:
        os.set_blocking(port, False)
        self._port = port
        self._dial = dial
        self._poll = select.epoll()
        self._poll.register(port, EDGES)
        self._server: socket.socket | None = None
        self._outward: Splicer | None = None
        self._inward = memoryview(b"")
        self._port_readable = self._port_writable = self._server_writable = True

    def run(self) -> None:
        """For ever. Raises OSError if the port itself fails."""
        while True:
            self.step(self._poll.poll())

    def step(self, events: list[tuple[int, int]]) -> None:
        """Takes note of what poll said, and moves what can be moved."""
        for fd, mask in events:
            self._note(fd, mask)
        try:
            self._move_inward()
            if self._outward is not None:
                self._outward.writable = self._port_writable
                self._outward.move()
                self._port_writable = self._outward.writable
        except EndedError:
            self._hang_up()

    def _note(self, fd: int, mask: int) -> None:
        if fd == self._port:
            self._port_readable |= bool(mask & READABLE)
            self._port_writable |= bool(mask & WRITABLE)
        elif self._server is not None and fd == self._server.fileno():
            self._server_writable |= bool(mask & WRITABLE)
            if self._outward is not None:
                self._outward.readable |= bool(mask & READABLE)

    def _move_inward(self) -> None:
        while self._flush_inward() and self._port_readable:
            try:
                chunk = os.read(self._port, READ)
            except BlockingIOError:
                self._port_readable = False
                return
            if not chunk:
                self._port_readable = False
                self._hang_up()
                return
            if is_new_client(chunk):
                self._hang_up()
                self._connect()
            if self._server is not None:
                self._inward = memoryview(chunk)

    def _flush_inward(self) -> bool:
        """Whether everything read from the port has gone to the server."""
        while self._inward and self._server_writable and self._server is not None:
            try:
                self._inward = self._inward[self._server.send(self._inward) :]
            except BlockingIOError:
                self._server_writable = False
            except OSError as error:
                if error.errno not in GONE:
                    raise
                self._hang_up()
        return not self._inward

    def _connect(self) -> None:
        self._server = self._dial()
        self._server.setblocking(False)
        self._poll.register(self._server, EDGES)
        self._server_writable = True
        self._outward = Splicer(self._server.fileno(), self._port)

    def _hang_up(self) -> None:
        """Forgets the connection and what was under way."""
        self._inward = memoryview(b"")
        if self._outward is not None:
            self._outward.close()
            self._outward = None
        if self._server is not None:
            self._server.close()
            self._server = None
