"""The pod's network for the sandbox's life: what is in its namespace on the host is in the guest, and stays so.

Supervisor only. Interfaces that come late (Podman with a user namespace, Docker from 26 on) are found at `start`, and
by watching afterwards. Every interface is a card that is plugged into the machine, one path for early and late ones.
"""

import asyncio
import itertools
import logging
import os
from typing import NamedTuple

from katapy.agent_client.client import AgentClient
from katapy.errors import HostError, KatapyError
from katapy.hypervisor.vm import Vm
from katapy.linux.rtnetlink import COUNTERS, Link
from katapy.network.pod import PodNamespace
from katapy.network.scan import Found
from katapy.protocol import agent_pb2 as pb
from katapy.sandbox.loopback import Forwarder
from katapy.sandbox.network_request import network_request

log = logging.getLogger(__name__)

_SETTLE_S = 0.1
"""From the first change to the look at it: changes come in dozens."""
_MADE_MAC = b"\x02kp"
"""The first half of a hardware address that katapy makes: one of those that are nobody's."""


class Card(NamedTuple):
    """An interface that is plugged into the machine. `own_mac`: the card's, by which the guest finds it."""

    id: str
    mac: bytes
    mtu: int
    own_mac: bytes


class PodNetwork:
    """`path`: the namespace, None for one that only the stand-in will make. `record`: see network.leftovers.

    `limit_s`: how long the guest may take to find its devices.
    """

    def __init__(self, vm: Vm, path: str | None, record: str, limit_s: float) -> None:
        self._vm = vm
        self._path = path
        self._record = record
        self._limit_s = limit_s
        self._namespace: PodNamespace | None = None
        self._agent: AgentClient | None = None
        self._cards: dict[int, Card] = {}
        self._refused: dict[int, KatapyError] = {}
        self._seen: set[tuple[int, bytes]] = set()
        self._told = pb.UpdateNetworkRequest()
        self._warned: set[str] = set()
        self._turn = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._forwarder: Forwarder | None = None

    async def prepare(self) -> None:
        """Plugs in what is there, as soon as the machine can take it. Raises KatapyError."""
        if self._path is not None:
            self._namespace = self._open(self._path)
            async with self._turn:
                await self._follow(self._namespace.scan())

    async def attach(self, agent: AgentClient, standin: int) -> None:
        """For a first container: the guest gets its network, and keeps up with changes from now on.

        `standin`: pid of a process that is in the namespace. Raises KatapyError.
        """
        self._agent = agent
        if self._namespace is None:
            self._namespace = self._open(f"/proc/{standin}/ns/net")
            self._namespace.raise_loopback()
        await self.update()
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(self._namespace))
            self._forward(agent, self._namespace)

    async def update(self) -> None:
        """The guest has what the namespace has now. Raises KatapyError for an interface that it can't get, too."""
        if self._namespace is None or self._agent is None:
            return
        async with self._turn:
            found = self._namespace.scan()
            await self._follow(found)
            request = network_request(found, {index: card.own_mac for index, card in self._cards.items()})
            if request != self._told:
                await self._agent.update_network(request, self._limit_s)
                self._told = request
        if self._refused:
            raise next(iter(self._refused.values()))

    def counters(self) -> list[dict[str, int | str]]:
        """Name and counters of each interface, from the host's side of it. Raises KatapyError."""
        if self._namespace is None:
            return []
        links = (i.link for i in self._namespace.scan().interfaces)
        return [{"name": link.name, **dict(zip(COUNTERS, link.counters, strict=True))} for link in links]

    def close(self) -> None:
        """Leaves nothing in the namespace; the machine has ended. Idempotent."""
        if self._watching is not None and self._namespace is not None:
            asyncio.get_running_loop().remove_reader(self._namespace.changes_fd())  # before it is closed
            self._watching.cancel()
            self._watching = None
        if self._forwarder is not None:
            self._forwarder.close()
        if self._namespace is not None:
            self._namespace.close(log.warning)

    def _open(self, path: str) -> PodNamespace:
        return PodNamespace(path, self._record)

    def _forward(self, agent: AgentClient, namespace: PodNamespace) -> None:
        try:
            self._forwarder = Forwarder(agent, namespace.open_loopback())
        except HostError as e:
            self._warn(f"127.0.0.1 of the pod's network namespace does not lead to the guest: {e}")

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _follow(self, found: Found) -> None:
        """Cards for new interfaces, none for those that have gone. What fails is in `_refused`, and is tried again
        when other interfaces have come or gone: else it would fail for ever, again and again."""
        for sentence in found.left_out:
            self._warn(sentence)
        links = {i.link.ifindex: i.link for i in found.interfaces}
        seen = {(link.ifindex, link.mac) for link in links.values()}
        if seen != self._seen:
            self._refused.clear()
            self._seen = seen
        for index, card in list(self._cards.items()):
            if index not in links or links[index].mac != card.mac:
                await self._unplug(index, card)
        for index, link in links.items():
            if index not in self._cards and index not in self._refused:
                await self._plug(link)
            elif index in self._cards and self._cards[index].mtu != link.mtu:
                self._of_namespace().follow_mtu(link)
                self._cards[index] = self._cards[index]._replace(mtu=link.mtu)

    async def _plug(self, link: Link) -> None:
        namespace = self._of_namespace()
        own_mac = self._free_mac(link)
        try:
            tap = namespace.join(link)
            try:
                card = await self._vm.plug_nic(tap, own_mac.hex(":"))
            except BaseException:
                namespace.part(link.ifindex, log.warning)
                raise
            finally:
                os.close(tap)
        except KatapyError as e:
            self._refused[link.ifindex] = KatapyError(f"network interface {link.name}: {e}")
            self._warn(str(self._refused[link.ifindex]))
        else:
            self._cards[link.ifindex] = Card(card, link.mac, link.mtu, own_mac)

    def _free_mac(self, link: Link) -> bytes:
        """The interface's, unless another one has it too, as all ipvlans of one parent do."""
        taken = {card.own_mac for card in self._cards.values()}
        made = (_MADE_MAC + number.to_bytes(3, "big") for number in itertools.count())
        return next(mac for mac in itertools.chain([link.mac], made) if mac not in taken)

    async def _unplug(self, index: int, card: Card) -> None:
        """The interface has gone; a guest that keeps the card has one that leads nowhere."""
        del self._cards[index]
        self._of_namespace().part(index, log.warning)
        try:
            await self._vm.unplug_nic(card.id)
        except KatapyError as e:
            self._warn(f"{card.id}: {e}")

    def _of_namespace(self) -> PodNamespace:
        assert self._namespace is not None
        return self._namespace

    async def _watch(self, namespace: PodNamespace) -> None:
        """Until it is cancelled; `close` takes the reader away."""
        changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(namespace.changes_fd(), changed.set)
        while True:
            await changed.wait()
            await asyncio.sleep(_SETTLE_S)
            namespace.forget_changes()
            changed.clear()
            await self._update_or_warn()

    async def _update_or_warn(self) -> None:
        try:
            await self.update()
        except KatapyError as e:
            self._warn(str(e))

    def _warn(self, sentence: str) -> None:
        """Once each."""
        if sentence not in self._warned:
            self._warned.add(sentence)
            log.warning("%s", sentence)
