"""Arguments of ps -> columns, and what stands in them: as procps prints it."""

import pytest

from katapy.cli.ps_layout import layout, rows
from katapy.errors import Unsupported

NOW = 1_000_000_000.0
PROCESS = {
    "pid": 7,
    "ppid": 1,
    "uid": 5,
    "user": "games",
    "start": NOW - 100_000,
    "cpu_seconds": 3725.5,
    "tty": "pts/1",
    "command": "sleep 9",
    "name": "sleep",
    "state": "S",
    "virtual_bytes": 5 << 20,
    "resident_bytes": 1 << 20,
    "resident_share": 0.0204,
}


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


@pytest.mark.parametrize(
    "words,header,row",
    [
        ("", "UID PID PPID C STIME TTY TIME CMD", "games 7 1 3 Sep07 pts/1 01:02:05 sleep 9"),
        ("-e -f", "UID PID PPID C STIME TTY TIME CMD", "games 7 1 3 Sep07 pts/1 01:02:05 sleep 9"),
        ("-e", "PID TTY TIME CMD", "7 pts/1 01:02:05 sleep"),
        ("-e -x", "PID TTY STAT TIME COMMAND", "7 pts/1 S 62:05 sleep 9"),
        ("ax", "PID TTY STAT TIME COMMAND", "7 pts/1 S 62:05 sleep 9"),
        (
            "aux",
            "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
            "games 7 3.7 2.0 5120 1024 pts/1 S Sep07 62:05 sleep 9",
        ),
        ("-o pid,comm=WHAT", "PID WHAT", "7 sleep"),
        ("-eopid -o args", "PID COMMAND", "7 sleep 9"),
        ("-o uid,etime,stat", "UID ELAPSED STAT", "5 1-03:46:40 S"),
    ],
)
def test_columns(words: str, header: str, row: str) -> None:
    columns = layout(words.split())
    assert " ".join(c.header for c in columns) == header
    assert " ".join(rows(columns, [PROCESS], NOW)[0]) == row


@pytest.mark.parametrize("words", ["--forest", "-l", "-L", "-eo", "-o nosuch", "-o pid,", "7"])
def test_what_only_ps_has_is_refused(words: str) -> None:
    with pytest.raises(Unsupported, match="not supported"):
        layout(words.split())


def test_a_process_that_says_nothing_is_shown() -> None:
    columns = layout(["aux"])
    assert rows(columns, [{}], NOW)[0][1:6] == ("None", "0.0", "0.0", "0", "0")
