"""The pod's network in the guest: a namespace of its own, and in it what the host asks for. Runs in the agent.

Every container is in that namespace; the agent's own stays empty. A device that the host plugs in appears in the
agent's, is told by its hardware address, and moves over under the name it has on the host.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from katapy.agent import modules
from katapy.agent.fdio import readable
from katapy.agent.pod_namespace import in_pod
from katapy.agent.reaper import Reaper
from katapy.errors import HostError, SpecError, Timeout, errno_text
from katapy.linux import rtnetlink
from katapy.linux.netlink import Netlink
from katapy.linux.rtnetlink import Address, Link, Neighbour, Route
from katapy.protocol import agent_pb2 as pb

DEVICE_DEADLINE_S = 50.0
"""From the request to the device: a guest that is emulated on a busy host takes its time with a new PCI device."""
DRIVER = "/sys/module/virtio_net"


class Wanted(NamedTuple):
    """A request with the devices it names as indexes."""

    addresses: frozenset[Address] = frozenset()
    routes: frozenset[Route] = frozenset()
    neighbours: frozenset[Neighbour] = frozenset()


class Network:
    """What has been set up so far. Requests are carried out one after the other."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._devices: dict[bytes, int] = {}
        """Hardware address when it was plugged in -> index in the pod's namespace."""
        self._is = Wanted()
        self._turn = asyncio.Lock()

    async def update(self, request: pb.UpdateNetworkRequest) -> None:
        """Raises SpecError, Timeout (a device did not come), HostError with what the kernel refused."""
        async with self._turn:
            with contextlib.ExitStack() as stack:
                with in_pod() as pod:
                    nl = stack.enter_context(Netlink())
                    pod = os.dup(pod)
                stack.callback(os.close, pod)
                await self._take_devices(nl, pod, {i.mac: i.shared_mac for i in request.interfaces})
                try:
                    self._name(nl, {self._devices[i.mac]: i.name for i in request.interfaces})
                    for interface in request.interfaces:
                        index = self._devices[interface.mac]
                        rtnetlink.set_link(nl, index, up=interface.up, mtu=interface.mtu)
                except OSError as e:
                    raise HostError(f"set up network interfaces in the guest: {e.strerror}") from e
                self._replace(nl, wanted(request, self._devices))

    # -- devices ------------------------------------------------------------------------------------------------------

    async def _take_devices(self, nl: Netlink, pod: int, macs: Mapping[bytes, bytes]) -> None:
        """All of `macs` are in the pod's namespace then, with the hardware address that is said beside them if one is.
        Those that are no longer asked for are forgotten."""
        present = {link.ifindex for link in rtnetlink.links(nl)}
        self._devices = {m: i for m, i in self._devices.items() if m in macs and i in present}
        missing = [mac for mac in macs if mac not in self._devices]
        if not missing:
            return
        if not os.path.isdir(DRIVER):
            await modules.load(self._reaper, "virtio_net")
        with Netlink(groups=rtnetlink.GROUPS) as changes, Netlink() as own:
            for mac in missing:
                link = await _appearance(own, changes, mac)
                self._devices[mac] = _move(own, nl, link, pod, macs[mac])

    def _name(self, nl: Netlink, names_wanted: dict[int, str]) -> None:
        """Names may be exchanged between devices, so those that change first get one that nobody wants."""
        now = {link.ifindex: link.name for link in rtnetlink.links(nl)}
        changing = {index: name for index, name in names_wanted.items() if now[index] != name}
        for index in changing:
            rtnetlink.set_link(nl, index, up=False)
            rtnetlink.set_link(nl, index, name=f"katapy{index}")
        for index, name in changing.items():
            rtnetlink.set_link(nl, index, name=name)

    # -- addresses, routes, neighbours --------------------------------------------------------------------------------

    def _replace(self, nl: Netlink, new: Wanted) -> None:
        """Everything is set anew: what went with an interface that was down comes back, the rest is no change."""
        old, self._is = self._is, new
        for neighbour in old.neighbours - new.neighbours:
            with contextlib.suppress(OSError):  # gone with its interface, or by the workload's hand
                rtnetlink.remove_neighbour(nl, neighbour)
        for route in old.routes - new.routes:
            with contextlib.suppress(OSError):
                rtnetlink.remove_route(nl, route)
        for address in old.addresses - new.addresses:
            with contextlib.suppress(OSError):
                rtnetlink.remove_address(nl, address)
        for address in sorted(new.addresses):
            try:
                rtnetlink.add_address(nl, address)
            except OSError as e:
                raise HostError(f"set an address of {address.prefix} bits in the guest: {e.strerror}") from e
        _add_routes(nl, sorted(new.routes, key=lambda r: (bool(r.gateway), -r.prefix)))
        for neighbour in new.neighbours:
            try:
                rtnetlink.add_neighbour(nl, neighbour)
            except OSError as e:
                raise HostError(f"set a neighbour in the guest: {e.strerror}") from e


async def _appearance(own: Netlink, changes: Netlink, mac: bytes) -> Link:
    """The device with that hardware address, in the agent's namespace. Raises Timeout."""
    try:
        async with asyncio.timeout(DEVICE_DEADLINE_S):
            while True:
                changes.drain()
                for link in rtnetlink.links(own):
                    if link.mac == mac:
                        return link
                await readable(changes.fileno())
    except TimeoutError as e:
        raise Timeout(f"the network device {mac.hex(':')} did not appear in the guest", DEVICE_DEADLINE_S) from e


def _move(own: Netlink, nl: Netlink, link: Link, pod: int, mac: bytes) -> int:
    """Its index in the pod's namespace, where it is down, has no address, and gets that hardware address unless it is
    empty. Raises HostError."""
    before = {known.ifindex for known in rtnetlink.links(nl)}
    try:
        rtnetlink.set_link(own, link.ifindex, up=False)
        rtnetlink.set_link(own, link.ifindex, name=f"katapy{link.ifindex}")
        rtnetlink.set_link(own, link.ifindex, netns=pod)
        (index,) = (new.ifindex for new in rtnetlink.links(nl) if new.mac == link.mac and new.ifindex not in before)
        if mac:
            rtnetlink.set_link(nl, index, mac=mac)
        rtnetlink.forbid_own_addresses(nl, index)
    except OSError as e:
        raise HostError(f"move the network device {link.name} to the pod in the guest: {errno_text(e)}") from e
    return index


def _add_routes(nl: Netlink, routes: Iterable[Route]) -> None:
    """A gateway may be reached by another route, so those that fail are tried again as long as that helps."""
    rest = list(routes)
    while rest:
        failed: list[tuple[Route, OSError]] = []
        for route in rest:
            try:
                rtnetlink.add_route(nl, route)
            except OSError as e:
                failed.append((route, e))
        if len(failed) == len(rest):
            raise HostError(f"set a route of {rest[0].prefix} bits in the guest: {failed[0][1].strerror}")
        rest = [route for route, _ in failed]


def wanted(request: pb.UpdateNetworkRequest, devices: dict[bytes, int]) -> Wanted:
    """Pure. Raises SpecError for what can't be meant."""
    try:
        return Wanted(
            frozenset(_address(devices[i.mac], a) for i in request.interfaces for a in i.addresses),
            frozenset(_route(devices[r.mac] if r.mac else 0, r) for r in request.routes),
            frozenset(
                Neighbour(devices[n.mac], _packed(n.address), n.lladdr, rtnetlink.NUD_PERMANENT)
                for n in request.neighbours
            ),
        )
    except KeyError as e:
        raise SpecError("the request names a network interface that is not in it") from e


def _address(index: int, a: pb.NetworkAddress) -> Address:
    return Address(
        ifindex=index,
        address=_packed(a.address),
        prefix=a.prefix,
        peer=_packed(a.peer, b""),
        broadcast=_packed(a.broadcast, b""),
        scope=a.scope,
        flags=a.flags,
        valid=a.valid_seconds,
        preferred=a.preferred_seconds,
        metric=a.metric,
    )


def _route(index: int, r: pb.NetworkRoute) -> Route:
    return Route(
        family=socket.AF_INET6 if r.ipv6 else socket.AF_INET,
        destination=_packed(r.destination, b""),
        prefix=r.prefix,
        gateway=_packed(r.gateway, b""),
        ifindex=index,
        metric=r.metric,
        source=_packed(r.source, b""),
        scope=r.scope,
        kind=r.kind,
        protocol=rtnetlink.RTPROT_STATIC,
        onlink=r.onlink,
        mtu=r.mtu,
    )


def _packed(address: bytes, *others: bytes) -> bytes:
    if len(address) not in (4, 16) and address not in others:
        raise SpecError(f"a network address of {len(address)} bytes")
    return address
