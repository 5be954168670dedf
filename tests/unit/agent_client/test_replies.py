"""Counting fields of serialized messages before protobuf sees them."""

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from katapy.agent_client.replies import MAX_FIELDS, Malformed, believed, bounded, has_at_most
from katapy.errors import AgentError
from katapy.protocol import agent_pb2 as pb

parse = bounded(pb.ListProcessesReply.FromString)


@given(st.lists(st.text(max_size=300), max_size=60), st.integers(0, 2**64 - 1), st.floats())
def test_real_messages_have_as_many_fields_as_they_have(names: list[str], number: int, seconds: float) -> None:
    phases = [pb.Phase(name=name, uptime_seconds=seconds) for name in names]
    data = pb.HelloReply(phases=phases, memory_bytes=number, cpus=1).SerializeToString()
    count = len(names) + 1 + (number != 0)
    assert has_at_most(data, count)
    assert not has_at_most(data, count - 1)


@given(st.binary(max_size=2000))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    assert isinstance(parse(data), (pb.ListProcessesReply, Malformed))


def test_too_many_fields_are_refused_before_they_cost_memory() -> None:
    assert isinstance(parse(b"\x0a\x00" * MAX_FIELDS), pb.ListProcessesReply)
    assert parse(b"\x0a\x00" * (MAX_FIELDS + 1)) == Malformed(f"a message of more than {MAX_FIELDS} fields")


def test_nothing_hides_behind_a_group() -> None:
    """Start and end of a group, then a list that is too long."""
    assert isinstance(parse(b"\x7b\x7c" + b"\x0a\x00" * (MAX_FIELDS + 1)), Malformed)


@pytest.mark.parametrize(
    "data",
    [b"\x0a", b"\x08" + b"\xff" * 11, b"\x0a\xff\xff\xff\xff\x7f", b"\x0f", b"\x0a\x04abc", b"\x0a\x03\x22\x01\xff"],
)
def test_what_is_no_message_is_malformed(data: bytes) -> None:
    assert isinstance(parse(data), Malformed)


def test_malformed_becomes_an_error_when_it_is_looked_at() -> None:
    def broken(_: bytes) -> Any:
        raise DecodeError

    with pytest.raises(AgentError, match="what is not a message"):
        believed(bounded(broken)(b""))
    assert believed(3) == 3
