"""What a pod's namespace holds -> what the guest is asked to have. Pure; supervisor only."""

import socket
from collections.abc import Mapping

from katapy.linux import rtnetlink
from katapy.network.scan import Found
from katapy.protocol import agent_pb2 as pb

_PASSED_FLAGS = rtnetlink.IFA_F_NOPREFIXROUTE


def network_request(found: Found, cards: Mapping[int, bytes]) -> pb.UpdateNetworkRequest:
    """Of the interfaces that have been plugged in: by their indexes, the hardware addresses of their cards."""
    macs = {i.link.ifindex: cards[i.link.ifindex] for i in found.interfaces if i.link.ifindex in cards}
    return pb.UpdateNetworkRequest(
        interfaces=[
            pb.NetworkInterface(
                mac=macs[i.link.ifindex],
                shared_mac=b"" if i.link.mac == macs[i.link.ifindex] else i.link.mac,
                name=i.link.name,
                mtu=i.link.mtu,
                up=i.link.up,
                addresses=[_address(a) for a in i.addresses],
            )
            for i in found.interfaces
            if i.link.ifindex in macs
        ],
        routes=[_route(r, macs) for r in found.routes if r.ifindex in macs or r.kind != rtnetlink.RTN_UNICAST],
        neighbours=[
            pb.NetworkNeighbour(mac=macs[n.ifindex], address=n.address, lladdr=n.mac)
            for n in found.neighbours
            if n.ifindex in macs
        ],
    )


def _address(a: rtnetlink.Address) -> pb.NetworkAddress:
    """Nobody but the host can have it too, so the guest need not ask around for a second whether it is free."""
    flags = a.flags & _PASSED_FLAGS
    if len(a.address) == 16:
        flags |= rtnetlink.IFA_F_NODAD
    return pb.NetworkAddress(
        address=a.address,
        prefix=a.prefix,
        peer=b"" if a.peer == a.address else a.peer,
        broadcast=a.broadcast,
        scope=a.scope,
        flags=flags,
        valid_seconds=a.valid,
        preferred_seconds=a.preferred,
        metric=a.metric,
    )


def _route(r: rtnetlink.Route, macs: dict[int, bytes]) -> pb.NetworkRoute:
    return pb.NetworkRoute(
        ipv6=r.family == socket.AF_INET6,
        destination=r.destination,
        prefix=r.prefix,
        gateway=r.gateway,
        mac=macs.get(r.ifindex, b""),
        metric=r.metric,
        source=r.source,
        scope=r.scope,
        kind=r.kind,
        onlink=r.onlink,
        mtu=r.mtu,
    )
