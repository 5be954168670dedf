"""The edge: what is printed where, and the exit status, in the words of runc's catalogue."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from katapy.cli import main as main_module
from katapy.cli.main import main

_SHOW_STDIO = """
import os
from katapy.cli import state, main
def show(args):
    found = [(os.readlink(f"/proc/self/fd/{n}"), os.get_inheritable(n)) for n in range(3)]
    os.write(int(args.id), repr(found).encode())
    return 7
state.run = show
raise SystemExit(main.main(["--log", "/dev/zero", "state", "9"]))
"""
TEXT = re.compile(r'time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ" level=error msg=(.*)\n')
Katapy = Callable[..., Any]


def message(stderr: str) -> str:
    match = TEXT.fullmatch(stderr)
    assert match, stderr
    return json.loads(match[1]) if match[1].startswith('"') else match[1]


@pytest.mark.parametrize(
    "argv, status, expected",
    [
        ("state nosuch", 1, "container does not exist"),
        ("start nosuch", 1, "container does not exist"),
        ("kill nosuch", 1, "container does not exist"),
        ("kill nosuch FOO", 1, "container does not exist"),
        ("delete nosuch", 1, "container does not exist"),
        ("pause nosuch", 1, "container does not exist"),
        ("resume nosuch", 1, "container does not exist"),
        ("ps nosuch", 1, "container does not exist"),
        ("events nosuch", 1, "container does not exist"),
        ("update nosuch", 1, "container does not exist"),
        ("exec nosuch true", 255, "exec failed: container does not exist"),
        ("state a/b", 1, "invalid container ID format"),
        ("create --bundle /nosuch c1", 1, "katapy create failed: chdir /nosuch: no such file or directory"),
        ("run --bundle /nosuch c1", 1, "katapy run failed: chdir /nosuch: no such file or directory"),
        ("create --bundle /usr c1", 1, "katapy create failed: JSON specification file config.json not found"),
        ("list -f yaml", 1, "invalid format option"),
        ("foo", 3, "No help topic for 'foo'"),
        ("checkpoint c1", 1, "checkpoint is not supported: a virtual machine's memory can't be dumped by CRIU"),
        ("restore --image-path x c1", 1, "flag provided but not defined: -image-path"),
        ("init", 3, "No help topic for 'init'"),
        (
            "--rootless true list",
            1,
            "rootless containers are not supported: run katapy as root with --rootless=false or auto",
        ),
        (
            "--cgroup-manager disabled create c1",
            1,
            "katapy create failed: --cgroup-manager disabled is not supported: use cgroupfs or systemd",
        ),
        ("--log-format yaml list", 1, "invalid log-format: yaml"),
        ("--log /nosuch/l list", 1, "open /nosuch/l: no such file or directory"),
        (
            "create --preserve-fds 1 c1",
            1,
            "katapy create failed: --preserve-fds is not supported: descriptors of the host can't enter the guest",
        ),
        ("exec --apparmor x c1 true", 255, "exec failed: --apparmor is not supported: the guest has no AppArmor"),
        ("spec --rootless", 1, "--rootless is not supported: katapy runs as root"),
    ],
)
def test_catalogue(katapy: Katapy, argv: str, status: int, expected: str) -> None:
    result = katapy(*argv.split())
    assert (result.status, message(result.err)) == (status, expected)
    assert result.out == "" or result.out.startswith("Incorrect Usage: flag provided but not defined")


def test_an_empty_id(katapy: Katapy) -> None:
    assert message(katapy("state", "").err) == "container id cannot be empty"


@pytest.mark.parametrize(
    "argv, first, status",
    [
        ("state", "Incorrect Usage.\n\nNAME:\n   katapy state - ", 1),
        ("state --x c", "Incorrect Usage: flag provided but not defined: -x\n\nNAME:\n   katapy state - ", 1),
        ("exec", "Incorrect Usage.\n\nNAME:\n   katapy exec - ", 1),
        ("--x", "Incorrect Usage. flag provided but not defined: -x\n\nNAME:\n   katapy - ", 1),
    ],
)
def test_incorrect_usage_shows_help_on_stdout(katapy: Katapy, argv: str, first: str, status: int) -> None:
    result = katapy(*argv.split())
    assert result.status == status
    assert result.out.startswith(first)
    assert message(result.err)


def test_json_log_gets_the_record_and_stderr_the_message(katapy: Katapy, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _ in range(2):
        result = katapy("--log", str(log), "--log-format=json", "state", "nosuch")
        assert (result.status, result.out, result.err) == (1, "", "container does not exist\n")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(records) == 2
    assert list(records[0]) == ["level", "msg", "time"]
    assert (records[1]["level"], records[1]["msg"]) == ("error", "container does not exist")


def test_usage_errors_go_to_the_log_as_well(katapy: Katapy, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert katapy("--log", str(log), "--log-format", "json", "state").status == 1
    assert json.loads(log.read_text())["msg"] == 'katapy: "state" requires exactly 1 argument(s)'


def test_the_log_is_made_even_if_there_is_nothing_to_say(katapy: Katapy, tmp_path: Path) -> None:
    assert katapy("--log", str(tmp_path / "log"), "list").status == 0
    assert (tmp_path / "log").read_text() == ""


def test_debug_logs_the_traceback(katapy: Katapy) -> None:
    result = katapy("--debug", "state", "nosuch")
    assert "level=debug" in result.err
    assert "Traceback" in result.err
    assert "Traceback" not in katapy("state", "nosuch").err


def test_a_bug_is_one_line_too(katapy: Katapy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_module, "_check_globals", lambda args: 1 // 0)
    result = katapy("list")
    assert result.status == 1
    assert message(result.err).startswith("internal error: ZeroDivisionError")


def test_version(katapy: Katapy) -> None:
    for flag in ("-v", "--version", "-version"):
        lines = katapy(flag).out.splitlines()
        assert re.fullmatch(r"katapy version \d+\.\d+\.\d+\S*", lines[0])
        assert re.fullmatch(r"commit: \S+", lines[1])
        assert re.fullmatch(r"spec: 1\.\d+\.\d+\S*", lines[2])


def test_the_root_is_made_absolute_and_is_not_the_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--root", "r", "list"]) == 0
    assert main(["--root", "/", "list"]) == 1


def test_a_closed_standard_output_is_an_error(katapy: Katapy, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def refuse(fd: int, data: bytes) -> int:
        if fd == 1:
            raise BrokenPipeError(32, "Broken pipe")
        return real(fd, data)

    real = os.write
    monkeypatch.setattr(os, "write", refuse)
    result = katapy("list")
    assert result.status == 1
    assert message(result.err) == "write to standard output: broken pipe"


def test_descriptors_that_the_caller_has_closed_lead_nowhere() -> None:
    """And are no log or socket that is opened later."""
    shell = ["sh", "-c", 'exec "$@" 9>&1 <&- >&- 2>&-', "sh", sys.executable, "-c", _SHOW_STDIO]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 7, done.stderr
    assert done.stdout == repr([("/dev/null", True)] * 3)
