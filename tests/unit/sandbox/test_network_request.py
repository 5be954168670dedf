"""What the host tells of a namespace is what the agent is going to set up."""

import socket

import pytest

from katapy.agent.network import wanted
from katapy.errors import SpecError
from katapy.linux import rtnetlink
from katapy.linux.rtnetlink import FOREVER, Address, Link, Neighbour, Route
from katapy.network.scan import Found, Interface
from katapy.protocol import agent_pb2 as pb
from katapy.sandbox.network_request import network_request

MAC = bytes([2, 0, 0, 0, 0, 7])
ETH0 = Link(7, "eth0", 1, rtnetlink.IFF_UP, MAC, 1400, "veth", 0, 0, (0,) * 8)
V4 = Address(7, bytes([10, 0, 0, 2]), 24, bytes([10, 0, 0, 2]), bytes([10, 0, 0, 255]), 0, 0x80, FOREVER, FOREVER, 0)
V6 = Address(7, bytes(15) + b"\2", 64, bytes(15) + b"\2", b"", 0, 0x280, 100, 50, 1024)
ROUTES = (
    Route(socket.AF_INET, b"", 0, bytes([10, 0, 0, 1]), 7, 100, b"", 0, 1, 4, False, 1300),
    Route(socket.AF_INET6, bytes(16), 64, b"", 7, 1024, b"", 0, 1, 4, True, 0),
    Route(socket.AF_INET, bytes([10, 7, 0, 0]), 16, b"", 0, 0, b"", 0, rtnetlink.RTN_BLACKHOLE, 4, False, 0),
)
NEIGHBOUR = Neighbour(7, bytes([10, 0, 0, 9]), bytes(6), rtnetlink.NUD_PERMANENT)
FOUND = Found((Interface(ETH0, (V4, V6)),), ROUTES, (NEIGHBOUR,), ())


def test_there_and_back() -> None:
    request = network_request(FOUND, {7: MAC})
    assert [(i.name, i.mtu, i.up, i.shared_mac) for i in request.interfaces] == [("eth0", 1400, True, b"")]
    understood = wanted(request, {MAC: 3})
    assert understood.neighbours == {NEIGHBOUR._replace(ifindex=3)}
    assert understood.routes == {r._replace(ifindex=r.ifindex and 3) for r in ROUTES}
    assert understood.addresses == {
        V4._replace(ifindex=3, flags=0, peer=b""),
        V6._replace(ifindex=3, flags=rtnetlink.IFA_F_NOPREFIXROUTE | rtnetlink.IFA_F_NODAD, peer=b""),
    }


def test_a_card_with_another_address_is_told_the_interfaces_own() -> None:
    card = bytes([2, 9, 9, 9, 9, 9])
    request = network_request(FOUND, {7: card})
    assert [(i.mac, i.shared_mac) for i in request.interfaces] == [(card, MAC)]
    assert {r.mac for r in request.routes} == {card, b""}
    assert wanted(request, {card: 3}) == wanted(network_request(FOUND, {7: MAC}), {MAC: 3})


def test_an_interface_that_could_not_be_plugged_in_takes_its_routes_along() -> None:
    request = network_request(FOUND, {})
    assert not request.interfaces
    assert not request.neighbours
    assert [r.kind for r in request.routes] == [rtnetlink.RTN_BLACKHOLE]


def test_what_cannot_be_meant_is_refused() -> None:
    interface = pb.NetworkInterface(mac=MAC, name="eth0", addresses=[pb.NetworkAddress(address=b"123")])
    with pytest.raises(SpecError, match="3 bytes"):
        wanted(pb.UpdateNetworkRequest(interfaces=[interface]), {MAC: 3})
    with pytest.raises(SpecError, match="not in it"):
        wanted(pb.UpdateNetworkRequest(routes=[pb.NetworkRoute(mac=b"other")]), {MAC: 3})
