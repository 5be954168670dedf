"""Which interfaces, routes and neighbours of a namespace the guest gets."""

import socket

import pytest

from katapy.linux import rtnetlink
from katapy.linux.rtnetlink import Link, Neighbour, Route
from katapy.network.scan import select


def link(index: int, name: str, **changes: object) -> Link:
    usual = Link(index, name, 1, rtnetlink.IFF_UP, bytes([2, 0, 0, 0, 0, index]), 1500, "veth", 0, 0, (0,) * 8)
    return usual._replace(**changes)  # type: ignore[arg-type]


def route(index: int, **changes: object) -> Route:
    usual = Route(socket.AF_INET, b"\x0a\0\0\0", 8, b"\x0a\0\0\1", index, 0, b"", 0, 1, 3, False, 0)
    return usual._replace(**changes)  # type: ignore[arg-type]


def test_all_but_loopback_and_our_taps() -> None:
    lo = link(1, "lo", flags=rtnetlink.IFF_UP | rtnetlink.IFF_LOOPBACK, type=772)
    found = select([lo, link(2, "eth0"), link(3, "net1", kind="macvlan"), link(4, "kata-2", kind="tun")], [], [], [])
    assert [i.link.name for i in found.interfaces] == ["eth0", "net1"]
    assert found.left_out == ()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"type": 65534}, "does not carry Ethernet"),
        ({"type": 65534, "flags": 0}, ""),
        ({"master": 2}, ""),
        ({"lower": 2}, "stacked"),
        ({"kind": "ifb"}, ""),
    ],
)
def test_what_is_left_out_is_told_if_it_looks_used(changes: dict[str, object], said: str) -> None:
    found = select([link(2, "eth0"), link(3, "odd", **changes)], [], [], [])
    assert [i.link.name for i in found.interfaces] == ["eth0"]
    assert [said in sentence and "odd" in sentence for sentence in found.left_out] == ([True] if said else [])


def test_routes_that_the_guests_kernel_makes_itself_are_left_to_it() -> None:
    kept = route(2)
    others = [
        route(2, protocol=rtnetlink.RTPROT_KERNEL),
        route(2, protocol=rtnetlink.RTPROT_RA),
        route(2, kind=2),
        route(9),
    ]
    assert select([link(2, "eth0")], [], [kept, *others], []).routes == (kept,)


def test_routes_without_an_interface_go_with_the_first_one() -> None:
    blackhole = route(0, kind=rtnetlink.RTN_BLACKHOLE, gateway=b"")
    assert select([link(2, "eth0")], [], [blackhole], []).routes == (blackhole,)
    assert select([], [], [blackhole], []).routes == ()


def test_of_several_next_hops_the_first_is_taken_and_told() -> None:
    found = select([link(2, "eth0")], [], [route(2, nexthops=2)], [])
    assert found.routes == (route(2),)
    assert "next hops" in found.left_out[0]


def test_only_permanent_neighbours() -> None:
    entries = [Neighbour(2, b"\x0a\0\0\1", b"\2\0\0\0\0\1", state) for state in (2, 64, rtnetlink.NUD_PERMANENT)]
    assert [n.state for n in select([link(2, "eth0")], [], [], entries).neighbours] == [rtnetlink.NUD_PERMANENT]
