"""PodNetwork: when cards are plugged in, when the guest is told, and that nothing is tried for ever."""

import asyncio
import os
from collections.abc import Callable
from typing import Any, cast

import pytest

from katapy.agent_client.client import AgentClient
from katapy.errors import HostError, HypervisorError, KatapyError
from katapy.hypervisor.vm import Vm
from katapy.linux.rtnetlink import COUNTERS, Link
from katapy.network.loopback import Loopback
from katapy.network.pod import PodNamespace
from katapy.network.scan import Found, Interface
from katapy.protocol import agent_pb2 as pb
from katapy.sandbox.network import PodNetwork


def link(index: int, mtu: int = 1500, mac: int = 0) -> Link:
    return Link(
        index, f"eth{index}", 1, 1, bytes([2, 0, 0, 0, mac, index]), mtu, "veth", 0, 0, tuple(range(len(COUNTERS)))
    )


class Namespace(PodNamespace):
    """In memory: real ones take root (tests/host/test_netns.py)."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.joined: list[int] = []
        self.mtus: list[int] = []
        self.changes, self.changed = os.pipe()
        os.set_blocking(self.changes, False)

    def scan(self) -> Found:
        return Found(tuple(Interface(each, ()) for each in self.links), (), (), ())

    def open_loopback(self) -> Loopback:
        raise HostError("not here")

    def raise_loopback(self) -> None: ...

    def changes_fd(self) -> int:
        return self.changes

    def forget_changes(self) -> None:
        os.read(self.changes, 4096)

    def join(self, link: Link) -> int:
        self.joined.append(link.ifindex)
        return os.open("/dev/null", os.O_RDWR)

    def follow_mtu(self, link: Link) -> None:
        self.mtus.append(link.mtu)

    def part(self, index: int, warn: Callable[[str], None]) -> None:
        self.joined.remove(index)

    def close(self, warn: Callable[[str], None]) -> None:
        os.close(self.changes)
        os.close(self.changed)


class Machine:
    """Takes cards, until it is told to refuse; `tries` counts."""

    def __init__(self) -> None:
        self.cards: dict[str, str] = {}
        self.refuses = False
        self.tries = 0

    async def plug_nic(self, tap: int, mac: str) -> str:
        self.tries += 1
        os.fstat(tap)
        if self.refuses:
            raise HypervisorError("no free slot")
        self.cards[f"nic-{self.tries}"] = mac
        return f"nic-{self.tries}"

    async def unplug_nic(self, card: str) -> None:
        del self.cards[card]


class Agent:
    def __init__(self) -> None:
        self.told: list[list[str]] = []

    async def update_network(self, request: pb.UpdateNetworkRequest, seconds: float) -> None:
        self.told.append([i.name for i in request.interfaces])


class World:
    def __init__(self) -> None:
        self.namespace, self.machine, self.agent = Namespace(), Machine(), Agent()
        self.network = PodNetwork(cast(Vm, self.machine), "/nowhere", "/nowhere", 60.0)
        self.network._open = lambda path: self.namespace  # type: ignore[method-assign]

    async def attach(self) -> None:
        await self.network.prepare()
        await self.network.attach(cast(AgentClient, self.agent), 1)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.01)


def run(scenario: Callable[[World], Any]) -> None:
    async def main() -> None:
        world = World()
        try:
            await scenario(world)
        finally:
            world.network.close()
            await asyncio.sleep(0)

    asyncio.run(main())


def test_interfaces_with_one_hardware_address_have_cards_of_their_own() -> None:
    """As all ipvlans of one parent have."""

    async def scenario(world: World) -> None:
        twins = [link(2), *(link(index)._replace(mac=link(2).mac) for index in (3, 4))]
        world.namespace.links = twins
        await world.attach()
        assert list(world.machine.cards.values()) == ["02:00:00:00:00:02", "02:6b:70:00:00:00", "02:6b:70:00:00:01"]
        world.namespace.links = twins[1:]
        await world.network.update()
        assert list(world.machine.cards.values()) == ["02:6b:70:00:00:00", "02:6b:70:00:00:01"]
        assert world.agent.told == [["eth2", "eth3", "eth4"], ["eth3", "eth4"]]

    run(scenario)


def test_an_empty_namespace_is_no_news() -> None:
    async def scenario(world: World) -> None:
        await world.attach()
        assert world.agent.told == []

    run(scenario)


def test_cards_are_plugged_in_before_the_agent_is_asked() -> None:
    async def scenario(world: World) -> None:
        world.namespace.links = [link(2), link(3)]
        await world.network.prepare()
        assert list(world.machine.cards.values()) == ["02:00:00:00:00:02", "02:00:00:00:00:03"]
        await world.network.attach(cast(AgentClient, world.agent), 1)
        await world.network.update()
        assert world.agent.told == [["eth2", "eth3"]]
        assert world.machine.tries == 2

    run(scenario)


def test_changes_are_followed() -> None:
    async def scenario(world: World) -> None:
        world.namespace.links = [link(2)]
        await world.attach()
        world.namespace.links = [link(2, mtu=1300), link(4)]
        os.write(world.namespace.changed, b"x")
        await world.until(lambda: len(world.agent.told) == 2)
        assert world.agent.told[-1] == ["eth2", "eth4"]
        assert world.namespace.mtus == [1300]
        world.namespace.links = [link(4)]
        os.write(world.namespace.changed, b"x")
        await world.until(lambda: len(world.agent.told) == 3)
        assert list(world.machine.cards.values()) == ["02:00:00:00:00:04"]
        assert world.namespace.joined == [4]

    run(scenario)


def test_another_hardware_address_is_another_card() -> None:
    async def scenario(world: World) -> None:
        world.namespace.links = [link(2)]
        await world.attach()
        world.namespace.links = [link(2, mac=9)]
        await world.network.update()
        assert list(world.machine.cards.values()) == ["02:00:00:00:09:02"]

    run(scenario)


def test_a_card_that_is_refused_is_an_error_and_leaves_nothing() -> None:
    async def scenario(world: World) -> None:
        world.namespace.links = [link(2)]
        world.machine.refuses = True
        with pytest.raises(KatapyError, match="network interface eth2: no free slot"):
            await world.attach()
        assert world.namespace.joined == []

    run(scenario)


def test_a_card_that_is_refused_is_tried_again_when_interfaces_change_and_not_before() -> None:
    async def scenario(world: World) -> None:
        await world.attach()
        world.machine.refuses = True
        world.namespace.links = [link(2)]
        for _ in range(5):
            with pytest.raises(KatapyError, match="no free slot"):
                await world.network.update()
        assert world.machine.tries == 1
        world.machine.refuses = False
        world.namespace.links = [link(2), link(3)]
        await world.network.update()
        assert world.machine.tries == 3
        assert world.agent.told == [["eth2", "eth3"]]

    run(scenario)


def test_counters_are_the_hosts() -> None:
    async def scenario(world: World) -> None:
        world.namespace.links = [link(2)]
        await world.attach()
        (counters,) = world.network.counters()
        assert counters["name"] == "eth2"
        assert counters["tx_dropped"] == 7

    run(scenario)
