"""The netlink codec: what goes in comes out, and anything may come in."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from katapy.linux import netlink, rtnetlink
from katapy.linux.netlink import attribute, attribute_list, attributes, nested, text, u32

ATTRIBUTES = st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=8)


@given(ATTRIBUTES)
def test_attributes_come_back_in_order(given_: list[tuple[int, bytes]]) -> None:
    packed = b"".join(attribute(kind, payload) for kind, payload in given_)
    assert len(packed) % 4 == 0
    assert list(attribute_list(packed)) == given_


@given(st.binary(max_size=400))
def test_anything_can_be_parsed(data: bytes) -> None:
    list(attribute_list(data))
    list(netlink.messages(data))


def test_nested_attributes_and_strings() -> None:
    packed = nested(7, text(1, "veth"), u32(2, 5))
    inner = attributes(attributes(packed)[7])
    assert inner == {1: b"veth\0", 2: struct.pack("=I", 5)}


@given(st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=40)), max_size=5))
def test_messages_of_one_datagram(parts: list[tuple[int, bytes]]) -> None:
    datagram = b"".join(netlink.message(kind, 5, 9, body) for kind, body in parts)
    assert [(m.kind, m.flags, m.sequence, m.body) for m in netlink.messages(datagram)] == [
        (kind, 5, 9, body) for kind, body in parts
    ]


def test_ones_own_namespace_can_be_read_by_anybody() -> None:
    with netlink.Netlink() as nl:
        links = rtnetlink.links(nl)
        lo = next(link for link in links if link.name == "lo")
        assert lo.flags & rtnetlink.IFF_LOOPBACK
        assert {a.ifindex for a in rtnetlink.addresses(nl)} <= {link.ifindex for link in links}
        rtnetlink.routes(nl)
        rtnetlink.neighbours(nl)


def test_changes_that_nobody_made_are_drained_without_waiting() -> None:
    with netlink.Netlink(groups=rtnetlink.GROUPS) as nl:
        nl.drain()
