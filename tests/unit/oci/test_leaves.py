"""Ids, signals, sizes, durations, capabilities."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katapy.errors import UsageError
from katapy.oci.capabilities import CAPABILITIES, ambient_complaints, complaint
from katapy.oci.ids import check_id
from katapy.oci.signals import NUMBERS, signal_number
from katapy.oci.sizes import parse_duration, parse_size
from katapy.oci.state import state_document


@pytest.mark.parametrize("good", ["a", "A-b_c.d+1", "...", "a-", "x" * 1024])
def test_ids(good: str) -> None:
    assert check_id(good) == good


@pytest.mark.parametrize("bad", [".", "..", "-", "-x", "a b", "a/b", "a:b", "ä", "a\n", "a\0b", "x" * 1025])
def test_bad_ids(bad: str) -> None:
    with pytest.raises(UsageError, match=r"^invalid container ID format$"):
        check_id(bad)


def test_capabilities_that_do_not_exist_are_told() -> None:
    assert complaint(["CAP_KILL", "CAP_FOO", "kill", "CAP_FOO"]) == (
        "ignoring unknown or unavailable capabilities: [CAP_FOO kill]"
    )
    assert complaint(CAPABILITIES) == ""


def test_ambient_capabilities_must_be_inheritable_and_permitted() -> None:
    sets = (["CAP_CHOWN", "CAP_KILL", "CAP_FOO", "CAP_BPF"], ["CAP_KILL", "CAP_BPF"], ["CAP_CHOWN", "CAP_KILL"])
    assert ambient_complaints(*sets) == [
        f"can't raise ambient capability {name}: operation not permitted" for name in ("CAP_CHOWN", "CAP_BPF")
    ]


def test_signal_numbers_are_the_kernels() -> None:
    for name, number in NUMBERS.items():
        if not name.startswith("RT"):
            assert signal.Signals[f"SIG{name}"] == number
    assert (NUMBERS["RTMIN"], NUMBERS["RTMAX"]) == (signal.SIGRTMIN, signal.SIGRTMAX)


@pytest.mark.parametrize(
    "text, number",
    [
        ("TERM", 15),
        ("sigkill", 9),
        ("Kill", 9),
        ("0", 0),
        ("64", 64),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("rtmax-1", 63),
    ],
)
def test_signals(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize(
    "text", ["", "FOO", "SIG", "65", "-1", "9999", "RTMIN+31", "RTMAX-31", "RTMIN+", "RTMIN-1", "٣"]
)
def test_unknown_signals(text: str) -> None:
    with pytest.raises(UsageError, match="unknown signal"):
        signal_number(text)


@pytest.mark.parametrize(
    "text, size",
    [
        ("0", 0),
        ("4096", 4096),
        ("1k", 1024),
        ("2M", 2 << 20),
        ("1.5g", 3 << 29),
        ("2GiB", 2 << 30),
        ("3 kb", 3072),
        ("7b", 7),
        ("-1", -1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "5x", "-2", "1..5k", "k", "1e3", "٣", "9" * 19 + "p", "9" * 40, "0x10"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(
    "text, seconds", [("5s", 5), ("100ms", 0.1), ("1m30s", 90), ("1h", 3600), ("0", 0), ("1.5s", 1.5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5x", "-5s", "5s5", "1..s"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(UsageError, match="invalid duration"):
        parse_duration(text)


@given(st.text())
def test_anything_is_parsed_or_a_usage_error(text: str) -> None:
    for parse in (parse_size, parse_duration, signal_number, check_id):
        try:
            parse(text)
        except UsageError:
            pass


def test_capabilities_are_in_the_kernels_order() -> None:
    assert (CAPABILITIES[0], CAPABILITIES[21], CAPABILITIES[40]) == (
        "CAP_CHOWN",
        "CAP_SYS_ADMIN",
        "CAP_CHECKPOINT_RESTORE",
    )
    assert len(set(CAPABILITIES)) == 41


def test_state_document_leaves_out_empty_annotations() -> None:
    shown = state_document(oci_version="1.0.2", id="c", pid=1, status="running", bundle="/b", annotations={})
    assert shown == {"ociVersion": "1.0.2", "id": "c", "pid": 1, "status": "running", "bundle": "/b"}
