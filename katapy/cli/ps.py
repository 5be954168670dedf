"""`katapy ps`: the guest's processes of a container as a table, or the host's pids that stand for them as JSON.

runc filters the host's ps by pid; here the host has only stand-ins, so the table is the guest's, with the columns of
`ps -ef`, and other columns can't be asked for. JSON is for engines, which want pids they can signal.
"""

import time

from katapy import quickjson
from katapy.cli.log import write_output
from katapy.cli.parse import Args
from katapy.cli.supervised import ask
from katapy.cli.tabular import columns
from katapy.errors import Unsupported, UsageError, WrongStatus
from katapy.sandbox import store

_COLUMNS = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
_RIGHT = frozenset(("PID", "PPID", "C"))
_DAY_S = 86400


def run(args: Args) -> int:
    if args.format not in ("table", "json"):
        raise UsageError("invalid format option")
    if args.command not in ([], ["-ef"], ["-e", "-f"], ["-e"], ["-f"]):
        raise Unsupported(f"ps options {' '.join(args.command)!r} are not supported: the processes are the guest's")
    state = store.live_status(args.root, args.id)
    processes, pids = _ask(args, state)
    if args.format == "json":
        write_output(quickjson.dumps(pids) + "\n")
    else:
        now = time.time()
        write_output(columns([_COLUMNS, *(_row(p, now) for p in processes if isinstance(p, dict))], _RIGHT))
    return 0


def _ask(args: Args, state: store.State) -> tuple[list[object], list[object]]:
    """(processes in the guest, pids on the host); nothing of a container that has stopped."""
    try:
        answer = ask(args.root, state, "ps", {}, "container not running")
    except WrongStatus:
        return [], []
    processes, pids = answer.get("processes"), answer.get("pids")
    return processes if isinstance(processes, list) else [], pids if isinstance(pids, list) else [state.pid]


def _row(process: dict[str, object], now: float) -> tuple[str, ...]:
    start, cpu = _number(process, "start"), _number(process, "cpu_seconds")
    age = max(1.0, now - start)
    return (
        str(process.get("user") or process.get("uid")),
        str(process.get("pid")),
        str(process.get("ppid")),
        str(min(99, int(100 * cpu / age))),
        time.strftime("%H:%M" if now - start < _DAY_S else "%b%d", time.localtime(start)),
        str(process.get("tty") or "?"),
        f"{int(cpu) // 3600:02}:{int(cpu) // 60 % 60:02}:{int(cpu) % 60:02}",
        str(process.get("command")),
    )


def _number(process: dict[str, object], key: str) -> float:
    """A guest may claim any time; what strftime can't show is the epoch."""
    value = process.get(key)
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 2**35 else 0.0
