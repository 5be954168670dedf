"""What a hostile guest says: console, boot port."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from katapy.hypervisor.qemu.bootport import BootPort
from katapy.hypervisor.qemu.console import OutputLog, safe_lines


def test_memory_and_file_are_bounded(tmp_path: Path) -> None:
    log = OutputLog(str(tmp_path / "console.log"))
    for i in range(3000):
        log.feed(f"{i:04} ".encode() + b"x" * 1018 + b"\n")
    log.close()
    assert log.lines(1)[0].startswith("2999 ")
    assert (tmp_path / "console.log").stat().st_size <= 1024 * 1024
    assert (tmp_path / "console.log.1").stat().st_size <= 1024 * 1024
    assert (tmp_path / "console.log").stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["console.log", "console.log.1"]


def test_a_file_that_cannot_be_written_is_given_up(tmp_path: Path) -> None:
    log = OutputLog(str(tmp_path / "nosuch/console.log"))
    log.feed(b"before\n")
    log.feed(b"after\n")
    assert log.lines(3) == [
        "before",
        f"katapy: can't write {tmp_path}/nosuch/console.log: No such file or directory",
        "after",
    ]


def test_quoted_lines_are_plain() -> None:
    data = b"\x1b[1;31mred\x1b[0m\r\n\x1b]0;title\x07ok\x00\x9b31m\nr\xe2\x80\xaeevil\xff\n\n" + b"y" * 1000
    lines = safe_lines(data, 10)
    assert lines[0] == "red"
    assert all(line.isprintable() and len(line) <= 400 for line in lines)
    assert safe_lines(data, 1) == ["y" * 400]


def test_registers_and_stack_are_left_out() -> None:
    dump = b"""[    4.1] Kernel panic - not syncing: Attempted to kill init!
[    4.2] CPU: 0 UID: 0 PID: 1 Comm: init
[    4.2] Call Trace:
[    4.3]  <TASK>
[    4.3]  panic+0x118/0x2db
[    4.4] RIP: 0033:0x4c9a35
"""
    assert safe_lines(dump, 20) == ["[    4.1] Kernel panic - not syncing: Attempted to kill init!"]


@given(st.binary(max_size=2000), st.integers(1, 50))
def test_anything_can_be_quoted(data: bytes, count: int) -> None:
    lines = safe_lines(data, count)
    assert len(lines) <= count
    assert all(line and line.isprintable() for line in lines)


def test_phases_and_log() -> None:
    port = BootPort()
    port.feed(b'{"phase": "init", "uptime": 2.5}\n{"log": "hel')
    port.feed(b'lo\\u001b[1m"}\n')
    assert port.phases == [("init", 2.5)]
    assert list(port.log) == ["hello [1m"]
    assert port.dropped == 0


def test_odd_lines_are_dropped() -> None:
    port = BootPort()
    odd = [
        '{"phase": "x", "uptime": 1e999}',
        '{"phase": "\\n", "uptime": 1}',
        '{"phase": 1}',
        "[]",
        "nonsense",
        "[" * 4000,
    ]
    for line in [*odd, "x" * 5000, '{"phase": "x", "uptime": ' + "9" * 3000 + "}"]:
        port.feed(line.encode() + b"\n")
    port.feed(b'{"phase": "good", "uptime": 1}\n')
    assert port.phases == [("good", 1.0)]
    assert port.dropped == len(odd) + 2


def test_a_flood_is_bounded() -> None:
    port = BootPort()
    for i in range(1000):
        port.feed(json.dumps({"phase": f"p{i}", "uptime": i}).encode() + b"\n")
        port.feed(json.dumps({"log": f"l{i}"}).encode() + b"\n")
    assert len(port.phases) == 64
    assert len(port.log) == 200
    assert port.log[-1] == "l999"


@given(st.lists(st.binary(max_size=100)))
def test_chunks_do_not_matter(lines: list[bytes]) -> None:
    whole, split = BootPort(), BootPort()
    data = b"\n".join([*lines, b'{"phase": "end", "uptime": 3}', b""])
    whole.feed(data)
    for i in range(len(data)):
        split.feed(data[i : i + 1])
    assert (whole.phases, list(whole.log), whole.dropped) == (split.phases, list(split.log), split.dropped)
    assert whole.phases[-1] == ("end", 3.0)
