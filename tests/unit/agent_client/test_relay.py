"""The relay between grpc's unix socket and a vsock, over socket pairs."""

import asyncio
import os
import socket
from pathlib import Path

from katapy.agent_client.relay import Relay, join


def test_bytes_arrive_both_ways_and_ends_are_passed_on() -> None:
    async def scenario() -> tuple[bytes, bytes]:
        near, one = socket.socketpair()
        other, far = socket.socketpair()
        for sock in (near, one, other, far):
            sock.setblocking(False)
        loop = asyncio.get_running_loop()
        pumping = asyncio.ensure_future(join(one, other))
        payload = os.urandom(1_000_000)

        async def send() -> None:
            await loop.sock_sendall(near, payload)
            near.shutdown(socket.SHUT_WR)

        async def receive(sock: socket.socket) -> bytes:
            got = b""
            while data := await loop.sock_recv(sock, 65536):
                got += data
            return got

        sending = asyncio.ensure_future(send())
        arrived = await receive(far)
        await sending
        await loop.sock_sendall(far, b"answer")
        far.close()
        answer = await receive(near)
        await asyncio.wait_for(pumping, 5)
        for sock in (near, one, other):
            sock.close()
        return (b"same" if arrived == payload else b"differs"), answer

    assert asyncio.run(scenario()) == (b"same", b"answer")


def test_a_dial_that_fails_closes_the_connection(tmp_path: Path) -> None:
    async def scenario() -> bytes:
        async def dial() -> socket.socket:
            raise ConnectionRefusedError

        relay = Relay(str(tmp_path / "agent.sock"), dial)
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "agent.sock"))
        got = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await writer.wait_closed()
        await relay.close()
        return got

    assert asyncio.run(scenario()) == b""


def test_the_path_may_be_longer_than_an_address(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def dial() -> socket.socket:
            raise ConnectionRefusedError

        relay = Relay(str(folder / "agent.sock"), dial)
        await relay.close()

    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    asyncio.run(scenario())


def test_the_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    async def scenario() -> int:
        async def dial() -> socket.socket:
            raise ConnectionRefusedError

        relay = Relay(str(tmp_path / "agent.sock"), dial)
        mode = (tmp_path / "agent.sock").stat().st_mode & 0o777
        await relay.close()
        return mode

    assert asyncio.run(scenario()) == 0o600
