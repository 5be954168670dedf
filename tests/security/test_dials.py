"""Connections to 127.0.0.1 of the pod, carried to a guest that lies: bounded, reset, never an accident.

The listeners are ordinary ones of this process: what sends connections to them is tested with the kernel's (host, vm).
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine
from typing import Any, cast

import pytest
from framework.besieged import IMPATIENT, Host, besieged
from framework.own import Memory

from katapy.linux.nftables import RedirectTable
from katapy.network.loopback import Loopback
from katapy.sandbox import loopback
from katapy.sandbox.loopback import MAX_CONNECTIONS, Forwarder

MOST_MIB = 48
WAIT_S = 60.0

pytestmark = pytest.mark.usefixtures("nothing_left")


class NoTable:
    def close(self) -> None: ...


class Siege:
    """An attack, and clients of the forwarder's listener."""

    def __init__(self, host: Host, port: int) -> None:
        self.host = host
        self._port = port

    async def connect(self) -> socket.socket:
        client = socket.socket()
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self._port))
        return client


@contextlib.asynccontextmanager
async def siege(attack: str) -> AsyncIterator[Siege]:
    async with besieged(attack, config=IMPATIENT) as host:
        await host.create()
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        agent = await host.sandbox._ready()
        forwarder = Forwarder(agent, Loopback((listener,), cast(RedirectTable, NoTable())))
        try:
            yield Siege(host, listener.getsockname()[1])
        finally:
            forwarder.close()
        assert host.accidents == []


@pytest.fixture(autouse=True)
def _any_destination(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "original_destination", lambda _: (bytes([127, 0, 0, 1]), 80))


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 2 * WAIT_S))


async def read(client: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 65536), WAIT_S)


def test_what_is_said_comes_back_and_ends() -> None:
    async def scenario() -> None:
        async with siege("DialsHonestly") as s:
            with await s.connect() as client:
                await asyncio.get_running_loop().sock_sendall(client, b"hello")
                client.shutdown(socket.SHUT_WR)
                assert await read(client) == b"hello"
                assert await read(client) == b""

    run(scenario())


@pytest.mark.parametrize(
    "attack",
    ["HonestAgent", "DialIsNoMessage", "DialSendsGarbage", "DialDoesNotConnect", "DialEndsWithoutAWord"],
)
def test_lies_reset_the_connection_and_nothing_else(attack: str) -> None:
    async def scenario() -> None:
        async with siege(attack) as s:
            with await s.connect() as client, pytest.raises(ConnectionResetError):
                await read(client)
            await s.host.ask("stats")

    run(scenario())


@pytest.mark.parametrize("attack", ["DialFloods", "DialFloodsNothing"])
def test_a_flood_to_clients_that_do_not_read_is_bounded(attack: str) -> None:
    async def scenario() -> None:
        async with siege(attack) as s:
            memory = Memory()
            clients = [await s.connect() for _ in range(4)]
            await asyncio.sleep(1.5)  # as long as the flood goes on
            await s.host.ask("stats")
            assert memory.growth_mib < MOST_MIB
            for client in clients:
                client.close()

    run(scenario())


def test_a_guest_that_never_answers_costs_a_connection_until_its_client_is_gone() -> None:
    async def scenario() -> None:
        async with siege("DialIsSilent") as s:
            clients = [await s.connect() for _ in range(MAX_CONNECTIONS)]
            with await s.connect() as one_more, pytest.raises(ConnectionResetError):
                await read(one_more)
            await s.host.ask("stats")
            for client in clients:
                client.close()

    run(scenario())


def test_what_a_guest_does_not_read_stays_with_the_client() -> None:
    async def scenario() -> None:
        async with siege("DialNeverReads") as s:
            memory = Memory()
            with await s.connect() as client:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(client, bytes(256 << 20)), 3)
                assert memory.growth_mib < 256 + MOST_MIB  # the client's own 256 are in this process, too

    run(scenario())
