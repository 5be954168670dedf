"""The relay over socket pairs: the kernel's edges, but no virtio."""

import os
import random
import select
import socket
import threading
from collections.abc import Iterator

import pytest

from katapy.agent.transport import vsock
from katapy.agent.transport.relay import relay
from katapy.agent.transport.serial import PREFACE, SETTINGS, SerialRelay, is_new_client

HELLO = PREFACE + b"\x00\x00\x00" + SETTINGS


class Bench:
    """A relay whose port is one end of a socket pair, and whose servers are too."""

    def __init__(self) -> None:
        self.host, port = socket.socketpair()
        self._port = port
        self.servers: list[socket.socket] = []
        self.relay = SerialRelay(port.fileno(), self._dial)

    def _dial(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(5)
        self.servers.append(ours)
        return theirs

    def turn(self) -> None:
        """Lets the relay do all it can do now."""
        while events := self.relay._poll.poll(0):
            self.relay.step(events)

    def close(self) -> None:
        self.relay._hang_up()
        self.relay._poll.close()
        for end in (self.host, self._port, *self.servers):
            end.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_bytes_go_both_ways(bench: Bench) -> None:
    bench.host.sendall(HELLO + b"request")
    bench.turn()
    (server,) = bench.servers
    assert server.recv(1000) == HELLO + b"request"
    server.sendall(b"answer")
    bench.turn()
    assert bench.host.recv(1000) == b"answer"


def test_nothing_without_a_preface(bench: Bench) -> None:
    bench.host.sendall(b"GET / HTTP/1.1\r\n\r\n")
    bench.turn()
    assert bench.servers == []


def test_a_preface_is_a_new_client(bench: Bench) -> None:
    bench.host.sendall(HELLO)
    bench.turn()
    bench.host.sendall(HELLO + b"second")
    bench.turn()
    first, second = bench.servers
    assert first.recv(1000) == HELLO
    assert first.recv(1000) == b""
    assert second.recv(1000) == HELLO + b"second"


def test_the_server_closes_and_the_relay_waits_for_the_next_client(bench: Bench) -> None:
    bench.host.sendall(HELLO)
    bench.turn()
    bench.servers[0].close()
    bench.turn()
    bench.host.sendall(b"lost")
    bench.turn()
    bench.host.sendall(HELLO)
    bench.turn()
    assert bench.servers[1].recv(1000) == HELLO


def test_the_host_closes(bench: Bench) -> None:
    bench.host.sendall(HELLO)
    bench.turn()
    bench.host.close()
    bench.turn()
    assert bench.servers[0].recv(1000) == HELLO
    assert bench.servers[0].recv(1000) == b""


def test_back_pressure_and_every_byte(bench: Bench) -> None:
    """Both directions at once, far beyond every buffer, readers slower than writers."""
    bench.host.sendall(HELLO)
    bench.turn()
    server = bench.servers[0]
    server.recv(len(HELLO))
    data = random.Random(7).randbytes(3_000_000)
    got: dict[str, bytes] = {}

    def exchange(name: str, end: socket.socket) -> None:
        end.setblocking(False)
        rest, received = memoryview(data), bytearray()
        while rest or len(received) < len(data):
            readable, writable, _ = select.select([end], [end] if rest else [], [], 5)
            if writable:
                rest = rest[end.send(rest[:200_000]) :]
            if readable:
                received += end.recv(7_001)
        got[name] = bytes(received)

    threads = [threading.Thread(target=exchange, args=pair) for pair in (("host", bench.host), ("server", server))]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        bench.relay.step(bench.relay._poll.poll(0.05))
    assert got == {"host": data, "server": data}


@pytest.mark.parametrize(
    "chunk,new",
    [
        (HELLO, True),
        (PREFACE, True),
        (PREFACE + b"\0\0\0\x01" + bytes(10), False),
        (b"x" + HELLO, False),
        (b"PRI", False),
    ],
)
def test_what_begins_a_connection(chunk: bytes, new: bool) -> None:
    assert is_new_client(chunk) is new


def test_relay_of_two_sockets() -> None:
    host, one = socket.socketpair()
    other, server = socket.socketpair()
    thread = threading.Thread(target=relay, args=(one, other))
    thread.start()
    host.sendall(b"x" * 100_000)
    assert server.recv(100_000, socket.MSG_WAITALL) == b"x" * 100_000
    server.sendall(b"y")
    assert host.recv(1) == b"y"
    host.close()
    thread.join(5)
    assert not thread.is_alive()
    before = len(os.listdir("/proc/self/fd"))
    for end in (one, other, server):
        end.close()
    assert len(os.listdir("/proc/self/fd")) == before - 3


class Listener:
    """Stands in for an AF_VSOCK listener: accepts what it was given, then fails like a device that was unplugged."""

    def __init__(self, *connections: tuple[socket.socket, tuple[int, int]]) -> None:
        self._connections = list(connections)

    def accept(self) -> tuple[socket.socket, tuple[int, int]]:
        if not self._connections:
            raise OSError("no more")
        return self._connections.pop(0)


def test_vsock_relays_the_host_and_nobody_else() -> None:
    host, accepted = socket.socketpair()
    container, refused = socket.socketpair()
    server, dialled = socket.socketpair()
    listener = Listener((refused, (1, 7)), (accepted, (vsock.HOST_CID, 7)))
    with host, container, server:
        with pytest.raises(OSError, match="no more"):
            vsock.serve(listener, lambda: dialled)  # type: ignore[arg-type]
        assert container.recv(1) == b""
        host.sendall(b"ping")
        assert server.recv(4) == b"ping"
        server.sendall(b"pong")
        assert host.recv(4) == b"pong"
        server.shutdown(socket.SHUT_RDWR)
        assert host.recv(1) == b""
