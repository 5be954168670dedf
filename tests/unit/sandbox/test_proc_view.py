"""What tools for processes read, made from what a guest says."""

import os
from pathlib import Path

from katapy.protocol import agent_pb2 as pb
from katapy.sandbox.proc_view import files, fill


def process(pid: int, **changes: object) -> pb.Process:
    fields = {"pid": pid, "ppid": 1, "uid": 5, "start_unix_seconds": 100, "cpu_seconds": 1.5, "command": "/bin/sleep 9"}
    fields |= {"name": "sleep", "state": "D", "virtual_bytes": 5_000_000, "resident_bytes": 8192}
    return pb.Process(**{**fields, **changes})  # type: ignore[arg-type]


def test_files_are_as_proc_has_them() -> None:
    made = files(process(7), 90)
    stat = made["stat"].split()
    assert len(stat) == 52
    assert stat[:4] == ["7", "(sleep)", "D", "1"]
    assert (stat[13], stat[21]) == ("150", "1000")
    assert stat[22:24] == ["5000000", str(8192 // os.sysconf("SC_PAGE_SIZE"))]
    assert "State:\tD\n" in made["status"]
    assert "Uid:\t5\t5\t5\t5\n" in made["status"]
    assert made["cmdline"] == "/bin/sleep\x009\x00"


def test_lies_stay_on_their_line() -> None:
    made = files(
        process(7, command="a) R 1\nUid: 0\x1b[2J", name="a) R 1\nUid: 0", state="S 0", cpu_seconds=float("1e300")), 0
    )
    assert files(process(7, cpu_seconds=float("nan")), 0)["stat"].split()[13] == "0"
    assert made["stat"].count("\n") == 1
    assert len(made["stat"].split(")")[1].split()) == 50
    assert "Uid: 0" not in made["status"].splitlines()
    assert made["cmdline"].rstrip("\0").replace("\0", " ").isprintable()


def test_a_view_follows_the_processes(tmp_path: Path) -> None:
    fill(str(tmp_path), [process(7), process(8), process(0), process(-1)])
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["7", "8"]
    fill(str(tmp_path), [process(8), process(9)])
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["8", "9"]
    assert (tmp_path / "stat").read_text() == "btime 100\n"
    assert (tmp_path / "9/ns/pid").readlink() == Path("pid:[1]")
