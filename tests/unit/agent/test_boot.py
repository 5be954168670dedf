"""The boot port over a socket pair."""

import json
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katapy.agent.boot import LOG_LINES, BootMessage, BootPort, TemplateMessage, find_port, parse_message

GOOD = {"version": 1, "secret": "5" * 32, "transport": "serial", "entropy": "00ff", "unix_nanoseconds": 7}


def test_who_is_to_rehearse_is_told_so() -> None:
    said = [parse_message(json.dumps({**GOOD, "rehearse": value}).encode()) for value in (True, False, 1)]
    assert [isinstance(m, BootMessage) and m.rehearse for m in said] == [True, False, False]


def test_message() -> None:
    message = parse_message(json.dumps(GOOD).encode())
    assert isinstance(message, BootMessage)
    assert (message.secret, message.transport, message.entropy, message.unix_nanoseconds) == (
        "5" * 32, "serial", b"\x00\xff", 7,
    )  # fmt: skip


def test_a_template_gets_a_message_before() -> None:
    assert parse_message(b'{"version": 1, "template": true}') == TemplateMessage()
    with pytest.raises(ValueError, match="no secret"):
        parse_message(b'{"version": 1, "template": 1}')


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"secret": ""}, {"secret": 5}, {"transport": "tcp"}, {"entropy": "xx"}, {"unix_nanoseconds": "7"}],
)
def test_a_malformed_message(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_message(json.dumps(GOOD | change).encode())


@given(st.binary(max_size=200))
def test_any_line_is_a_message_or_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_message(line)


def test_port_both_ways() -> None:
    host, guest = socket.socketpair()
    with host, guest:
        port = BootPort(guest.fileno())
        host.sendall(json.dumps(GOOD).encode()[:20])
        host.sendall(json.dumps(GOOD).encode()[20:] + b"\n")
        message = port.read_message()
        assert isinstance(message, BootMessage)
        assert message.secret == GOOD["secret"]
        port.phase("init")
        port.log("x" * 100_000)
        phase, log = host.recv(65536).splitlines()
        assert json.loads(phase)["phase"] == "init"
        assert len(json.loads(log)["log"]) == 2000
        assert [name for name, _ in port.phases] == ["init"]


def test_a_host_that_does_not_read_is_not_waited_for() -> None:
    host, guest = socket.socketpair()
    with host, guest:
        port = BootPort(guest.fileno())
        for _ in range(LOG_LINES + 10):
            port.log("x" * 2000)


def test_a_host_that_goes_or_sends_too_much() -> None:
    for data, error in ((b"", EOFError), (b"x" * 70_000, ValueError)):
        host, guest = socket.socketpair()
        with guest:
            host.setblocking(False)
            host.sendall(data)
            host.close()
            with pytest.raises(error):
                BootPort(guest.fileno()).read_message()


def test_find_port(tmp_path: Path) -> None:
    for port, name in (("vport1p1", "other"), ("vport1p2", "wanted")):
        os.mkdir(tmp_path / port)
        (tmp_path / port / "name").write_text(name + "\n")
    assert find_port("wanted", str(tmp_path)) == "/dev/vport1p2"
    assert find_port("nothing", str(tmp_path)) is None
    assert find_port("wanted", str(tmp_path / "none")) is None
