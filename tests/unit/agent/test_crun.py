"""crun's command line and log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katapy.agent.crun import MESSAGE_LIMIT, command, message


def test_command() -> None:
    assert command("/log", "start", "c1") == [
        "/usr/bin/crun",
        "--root=/run/katapy/crun",
        "--cgroup-manager=cgroupfs",
        "--log=file:/log",
        "--log-format=text",
        "start",
        "c1",
    ]


@pytest.mark.parametrize(
    "log, said",
    [
        ("", ""),
        ("executable file `a\n  b` not found in $PATH\n", "executable file `a b` not found in $PATH"),
        ("sched_setattr: Operation not permitted\nfail startup\n", "sched_setattr: Operation not permitted"),
        ("fail startup\n", "fail startup"),
        ("x" * 5000, "x" * MESSAGE_LIMIT),
    ],
)
def test_what_crun_says_is_one_line(log: str, said: str) -> None:
    assert message(log) == said


@given(st.text())
def test_any_log_is_read(log: str) -> None:
    assert "\n" not in message(log)
