"""crun's command line and log."""

import json

from hypothesis import given
from hypothesis import strategies as st

from katapy.agent.crun import MESSAGE_LIMIT, command, last_message


def test_command() -> None:
    assert command("/log", "start", "c1") == [
        "/usr/bin/crun",
        "--root=/run/katapy/crun",
        "--cgroup-manager=cgroupfs",
        "--log=file:/log",
        "--log-format=json",
        "start",
        "c1",
    ]


def test_the_last_message_counts() -> None:
    lines = [{"msg": "first", "level": "error"}, {"msg": "last\nline", "level": "error"}, {"level": "x"}]
    assert last_message("\n".join(map(json.dumps, lines)) + "\nnot json\n") == "last line"
    assert last_message("") == ""
    assert len(last_message(json.dumps({"msg": "x" * 5000}))) == MESSAGE_LIMIT


@given(st.text())
def test_any_log_is_read(log: str) -> None:
    assert "\n" not in last_message(log)
