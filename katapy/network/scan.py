"""What a pod's network namespace holds, and what of it the guest gets. Supervisor only.

Every Ethernet-like interface goes to the guest: veth, macvlan, ipvlan, tap, dummy, bridge, whatever it is called. Left
out are loopback, katapy's own taps, ports of a bridge or bond of the same namespace, and what is stacked on another
interface of it: the lower one carries its packets into the guest.
"""

from typing import NamedTuple

from katapy.linux import rtnetlink
from katapy.linux.netlink import Netlink
from katapy.linux.rtnetlink import Address, Link, Neighbour, Route

TAP_PREFIX = "kata-"
"""Names of katapy's taps: this and the index of the interface they are joined to."""

_NOT_FOR_GUESTS = frozenset({"ifb"})
_KINDS_OF_ROUTES = frozenset(
    {rtnetlink.RTN_UNICAST, rtnetlink.RTN_BLACKHOLE, rtnetlink.RTN_UNREACHABLE, rtnetlink.RTN_PROHIBIT}
)
_MADE_BY_KERNEL = frozenset({rtnetlink.RTPROT_KERNEL, rtnetlink.RTPROT_RA})
"""They follow from the addresses, or from what routers announce: the guest's kernel makes its own."""


class Interface(NamedTuple):
    """An interface that the guest gets, and the addresses it has."""

    link: Link
    addresses: tuple[Address, ...]


class Found(NamedTuple):
    """A namespace at one moment. `left_out`: a sentence for each thing that is not passed on though it looks used."""

    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...]
    neighbours: tuple[Neighbour, ...]
    left_out: tuple[str, ...]


def scan(nl: Netlink) -> Found:
    """What is there now. Raises OSError."""
    return select(rtnetlink.links(nl), rtnetlink.addresses(nl), rtnetlink.routes(nl), rtnetlink.neighbours(nl))


def select(links: list[Link], addresses: list[Address], routes: list[Route], neighbours: list[Neighbour]) -> Found:
    """Pure."""
    chosen: dict[int, Link] = {}
    left_out = []
    for link in links:
        reason = _unfit(link)
        if reason is None:
            chosen[link.ifindex] = link
        elif reason:
            left_out.append(f"network interface {link.name} is not joined to the guest: {reason}")
    kept = [r for r in routes if _belongs(r, chosen)]
    left_out += ["of a route with several next hops the guest gets the first" for r in kept if r.nexthops > 1][:1]
    return Found(
        tuple(Interface(link, _addresses_of(index, addresses)) for index, link in chosen.items()),
        tuple(r._replace(nexthops=1) for r in kept),
        tuple(n for n in neighbours if n.ifindex in chosen and n.state & rtnetlink.NUD_PERMANENT and n.mac),
        tuple(left_out),
    )


def _unfit(link: Link) -> str | None:
    """None for an interface that the guest gets; why not, or empty where nobody would expect it."""
    if link.flags & rtnetlink.IFF_LOOPBACK or link.kind in _NOT_FOR_GUESTS or link.name.startswith(TAP_PREFIX):
        return ""
    if link.type != rtnetlink.ARPHRD_ETHER:
        return "it does not carry Ethernet" if link.up else ""
    if link.master:
        return ""
    if link.lower:
        return "it is stacked on another interface of the namespace"
    return None


def _belongs(route: Route, chosen: dict[int, Link]) -> bool:
    """Whether the guest gets it; routes without an interface (blackhole) are the namespace's own."""
    if route.kind not in _KINDS_OF_ROUTES or route.protocol in _MADE_BY_KERNEL:
        return False
    if route.ifindex in chosen:
        return True
    return route.kind != rtnetlink.RTN_UNICAST and bool(chosen)


def _addresses_of(index: int, addresses: list[Address]) -> tuple[Address, ...]:
    return tuple(a for a in addresses if a.ifindex == index and not a.flags & rtnetlink.IFA_F_DADFAILED)
