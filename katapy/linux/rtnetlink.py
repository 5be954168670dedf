"""Links, addresses, routes and neighbours of a network namespace: read, and set. Host and guest.

Standard library only (see netlink.py). Layouts: linux/if_link.h, if_addr.h, rtnetlink.h, neighbour.h. Addresses are
packed bytes of 4 or 16, in network order.
"""

import errno
import socket
import struct
from typing import NamedTuple

from katapy.linux import netlink
from katapy.linux.netlink import Netlink, attribute, attributes, nested, text, u32

RTM_NEWLINK, RTM_GETLINK = 16, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30

GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""Multicast groups of changes: links, IPv4 addresses and routes, IPv6 addresses and routes."""

IFF_UP, IFF_LOOPBACK = 0x1, 0x8
ARPHRD_ETHER = 1

(_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER) = (1, 3, 4, 5, 10)
(_IFLA_LINKINFO, _IFLA_STATS64, _IFLA_AF_SPEC, _IFLA_NET_NS_FD, _IFLA_LINK_NETNSID) = (18, 23, 26, 28, 37)
_IFLA_INFO_KIND = 1
_IFLA_INET6_ADDR_GEN_MODE, _GEN_MODE_NONE = 8, 1

(_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_CACHEINFO, _IFA_FLAGS, _IFA_RT_PRIORITY) = (1, 2, 4, 6, 8, 9)
IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_NOPREFIXROUTE = 0x02, 0x08, 0x200
FOREVER = 0xFFFFFFFF
"""A lifetime that does not end."""

(_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_METRICS) = (1, 4, 5, 6, 7, 8)
(_RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA) = (9, 15, 18)
_RTAX_MTU = 2
RT_TABLE_MAIN = 254
RTPROT_KERNEL, RTPROT_STATIC, RTPROT_RA = 2, 4, 9
RTN_UNICAST, RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT = 1, 6, 7, 8
_RTNH_F_ONLINK = 4

_NDA_DST, _NDA_LLADDR = 1, 2
NUD_PERMANENT = 0x80

COUNTERS = ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped")
"""The head of struct rtnl_link_stats64."""


class Link(NamedTuple):
    """`lower`: index of the interface it is stacked on, if that is in the same namespace, else 0. `counters`: by
    COUNTERS."""

    ifindex: int
    name: str
    type: int
    flags: int
    mac: bytes
    mtu: int
    kind: str
    master: int
    lower: int
    counters: tuple[int, ...]

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)


class Address(NamedTuple):
    """`address` is the interface's own, `peer` the other end's or that again. Lifetimes in seconds."""

    ifindex: int
    address: bytes
    prefix: int
    peer: bytes
    broadcast: bytes
    scope: int
    flags: int
    valid: int
    preferred: int
    metric: int


class Route(NamedTuple):
    """Of the main table. `destination` is empty for the default route; `ifindex` 0: no interface (blackhole).

    `nexthops`: more than one is told, but only the first is in `gateway` and `ifindex`.
    """

    family: int
    destination: bytes
    prefix: int
    gateway: bytes
    ifindex: int
    metric: int
    source: bytes
    scope: int
    kind: int
    protocol: int
    onlink: bool
    mtu: int
    nexthops: int = 1


class Neighbour(NamedTuple):
    ifindex: int
    address: bytes
    mac: bytes
    state: int


# -- links ------------------------------------------------------------------------------------------------------------


def links(nl: Netlink) -> list[Link]:
    """All of the namespace. Raises OSError."""
    return [_link(m.body) for m in nl.dump(RTM_GETLINK, _ifinfo(0)) if m.kind == RTM_NEWLINK]


def _link(body: bytes) -> Link:
    _family, type_, index, flags, _change = struct.unpack_from("=BxHiII", body)
    found = attributes(body[16:])
    info = attributes(found.get(_IFLA_LINKINFO, b""))
    stats = found.get(_IFLA_STATS64, b"")
    elsewhere = _IFLA_LINK_NETNSID in found
    return Link(
        ifindex=index,
        name=_string(found.get(_IFLA_IFNAME, b"")),
        type=type_,
        flags=flags,
        mac=found.get(_IFLA_ADDRESS, b""),
        mtu=_number(found.get(_IFLA_MTU)),
        kind=_string(info.get(_IFLA_INFO_KIND, b"")),
        master=_number(found.get(_IFLA_MASTER)),
        lower=0 if elsewhere else _number(found.get(_IFLA_LINK)),
        counters=struct.unpack_from("=8Q", stats) if len(stats) >= 64 else (0,) * len(COUNTERS),
    )


def set_link(
    nl: Netlink,
    index: int,
    *,
    up: bool | None = None,
    name: str = "",
    mtu: int = 0,
    mac: bytes = b"",
    netns: int = -1,
) -> None:
    """Changes what is given. `netns`: a descriptor of the namespace that it moves to. Raises OSError."""
    body = _ifinfo(index, 0 if up is None else IFF_UP, IFF_UP if up else 0)
    if name:
        body += text(_IFLA_IFNAME, name)
    if mtu:
        body += u32(_IFLA_MTU, mtu)
    if mac:
        body += attribute(_IFLA_ADDRESS, mac)
    if netns >= 0:
        body += u32(_IFLA_NET_NS_FD, netns)
    nl.request(RTM_NEWLINK, body)


def forbid_own_addresses(nl: Netlink, index: int) -> None:
    """The kernel then makes no link-local IPv6 address of its own when the interface comes up. Raises OSError."""
    mode = attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_GEN_MODE_NONE]))
    try:
        nl.request(RTM_NEWLINK, _ifinfo(index) + nested(_IFLA_AF_SPEC, nested(socket.AF_INET6, mode)))
    except OSError as e:
        if e.errno not in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):  # without IPv6 it makes none anyway
            raise


def _ifinfo(index: int, change: int = 0, flags: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


# -- addresses --------------------------------------------------------------------------------------------------------


def addresses(nl: Netlink) -> list[Address]:
    """Of all interfaces, both families. Raises OSError."""
    return [_address(m.body) for m in nl.dump(_RTM_GETADDR, struct.pack("=BBBBi", 0, 0, 0, 0, 0))]


def _address(body: bytes) -> Address:
    _family, prefix, flags, scope, index = struct.unpack_from("=BBBBi", body)
    found = attributes(body[8:])
    far = found.get(_IFA_ADDRESS, b"")
    cache = found.get(_IFA_CACHEINFO, b"")
    preferred, valid = struct.unpack_from("=II", cache) if len(cache) >= 8 else (FOREVER, FOREVER)
    return Address(
        ifindex=index,
        address=found.get(_IFA_LOCAL, far),
        prefix=prefix,
        peer=far,
        broadcast=found.get(_IFA_BROADCAST, b""),
        scope=scope,
        flags=_number(found.get(_IFA_FLAGS)) or flags,
        valid=valid,
        preferred=preferred,
        metric=_number(found.get(_IFA_RT_PRIORITY)),
    )


def add_address(nl: Netlink, a: Address) -> None:
    """Or changes the one that is there. Raises OSError."""
    nl.request(_RTM_NEWADDR, _ifaddr(a), netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE)


def remove_address(nl: Netlink, a: Address) -> None:
    """Raises OSError."""
    nl.request(_RTM_DELADDR, _ifaddr(a))


def _ifaddr(a: Address) -> bytes:
    body = struct.pack("=BBBBi", _family(a.address), a.prefix, 0, a.scope, a.ifindex)
    body += attribute(_IFA_LOCAL, a.address) + attribute(_IFA_ADDRESS, a.peer or a.address) + u32(_IFA_FLAGS, a.flags)
    if a.broadcast:
        body += attribute(_IFA_BROADCAST, a.broadcast)
    if a.metric:
        body += u32(_IFA_RT_PRIORITY, a.metric)
    if a.valid != FOREVER:
        body += attribute(_IFA_CACHEINFO, struct.pack("=IIII", a.preferred, a.valid, 0, 0))
    return body


# -- routes -----------------------------------------------------------------------------------------------------------


def routes(nl: Netlink) -> list[Route]:
    """Of the main table, both families. Raises OSError."""
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        for m in nl.dump(_RTM_GETROUTE, struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)):
            values = attributes(m.body[12:])
            if (_number(values.get(_RTA_TABLE)) or m.body[4]) == RT_TABLE_MAIN:
                found.append(_route(m.body, values))
    return found


def _route(body: bytes, found: dict[int, bytes]) -> Route:
    family, prefix, _, _, _table, protocol, scope, kind, flags = struct.unpack_from("=BBBBBBBBI", body)
    hops = _nexthops(found.get(_RTA_MULTIPATH, b""))
    index, hop_flags, hop = hops[0] if hops else (_number(found.get(_RTA_OIF)), flags, found)
    return Route(
        family=family,
        destination=found.get(_RTA_DST, b""),
        prefix=prefix,
        gateway=hop.get(_RTA_GATEWAY, b"") or hop.get(_RTA_VIA, b"")[2:],
        ifindex=index,
        metric=_number(found.get(_RTA_PRIORITY)),
        source=found.get(_RTA_PREFSRC, b""),
        scope=scope,
        kind=kind,
        protocol=protocol,
        onlink=bool(hop_flags & _RTNH_F_ONLINK),
        mtu=_number(attributes(found.get(_RTA_METRICS, b"")).get(_RTAX_MTU)),
        nexthops=max(1, len(hops)),
    )


def _nexthops(data: bytes) -> list[tuple[int, int, dict[int, bytes]]]:
    """struct rtnexthop: interface, flags, attributes of each."""
    hops = []
    at = 0
    while at + 8 <= len(data):
        length, flags, _hops, index = struct.unpack_from("=HBBi", data, at)
        if length < 8:
            break
        hops.append((index, flags, attributes(data[at + 8 : at + length])))
        at += (length + 3) & ~3
    return hops


def add_route(nl: Netlink, r: Route) -> None:
    """Or replaces the one to the same destination with the same metric. Raises OSError."""
    nl.request(_RTM_NEWROUTE, _rtmsg(r), netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE)


def remove_route(nl: Netlink, r: Route) -> None:
    """Raises OSError."""
    nl.request(_RTM_DELROUTE, _rtmsg(r))


def _rtmsg(r: Route) -> bytes:
    flags = _RTNH_F_ONLINK if r.onlink else 0
    body = struct.pack("=BBBBBBBBI", r.family, r.prefix, 0, 0, RT_TABLE_MAIN, r.protocol, r.scope, r.kind, flags)
    if r.destination:
        body += attribute(_RTA_DST, r.destination)
    if r.gateway and _family(r.gateway) == r.family:
        body += attribute(_RTA_GATEWAY, r.gateway)
    elif r.gateway:
        body += attribute(_RTA_VIA, struct.pack("=H", _family(r.gateway)) + r.gateway)
    if r.ifindex:
        body += u32(_RTA_OIF, r.ifindex)
    if r.metric:
        body += u32(_RTA_PRIORITY, r.metric)
    if r.source:
        body += attribute(_RTA_PREFSRC, r.source)
    if r.mtu:
        body += nested(_RTA_METRICS, u32(_RTAX_MTU, r.mtu))
    return body


# -- neighbours -------------------------------------------------------------------------------------------------------


def neighbours(nl: Netlink) -> list[Neighbour]:
    """Entries of all interfaces, whatever their state. Raises OSError."""
    found = []
    for m in nl.dump(_RTM_GETNEIGH, struct.pack("=BxxxiHBB", socket.AF_UNSPEC, 0, 0, 0, 0)):
        _, index, state, _, _ = struct.unpack_from("=BxxxiHBB", m.body)
        values = attributes(m.body[12:])
        found.append(Neighbour(index, values.get(_NDA_DST, b""), values.get(_NDA_LLADDR, b""), state))
    return found


def add_neighbour(nl: Netlink, n: Neighbour) -> None:
    """Or replaces the one of the same address. Raises OSError."""
    nl.request(_RTM_NEWNEIGH, _ndmsg(n), netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE)


def remove_neighbour(nl: Netlink, n: Neighbour) -> None:
    """Raises OSError."""
    nl.request(_RTM_DELNEIGH, _ndmsg(n))


def _ndmsg(n: Neighbour) -> bytes:
    head = struct.pack("=BxxxiHBB", _family(n.address), n.ifindex, n.state, 0, 0)
    return head + attribute(_NDA_DST, n.address) + attribute(_NDA_LLADDR, n.mac)


def _family(address: bytes) -> int:
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def _number(data: bytes | None) -> int:
    return struct.unpack_from("=I", data)[0] if data is not None and len(data) >= 4 else 0


def _string(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")
