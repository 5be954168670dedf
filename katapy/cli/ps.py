"""`katapy ps`: the guest's processes of a container as a table, or the host's pids that stand for them as JSON.

runc filters the host's ps by pid; here the host has only stand-ins, so the table is the guest's (ps_layout). JSON is
for engines, which want pids they can signal.
"""

import time

from katapy import quickjson
from katapy.cli.log import write_output
from katapy.cli.parse import Args
from katapy.cli.ps_layout import layout, rows
from katapy.cli.supervised import ask
from katapy.cli.tabular import columns
from katapy.errors import UsageError, WrongStatus
from katapy.sandbox import store


def run(args: Args) -> int:
    if args.format not in ("table", "json"):
        raise UsageError("invalid format option")
    shown = layout(args.command)
    state = store.live_status(args.root, args.id)
    processes, pids = _ask(args, state)
    if args.format == "json":
        write_output(quickjson.dumps(pids) + "\n")
    else:
        found = rows(shown, [p for p in processes if isinstance(p, dict)], time.time())
        lines = [[c.header for c in shown], *found]
        write_output(columns(lines, [c.right for c in shown], [c.width for c in shown]))
    return 0


def _ask(args: Args, state: store.State) -> tuple[list[object], list[object]]:
    """(processes in the guest, pids on the host); nothing of a container that has stopped."""
    try:
        answer = ask(args.root, state, "ps", {}, "container not running")
    except WrongStatus:
        return [], []
    processes, pids = answer.get("processes"), answer.get("pids")
    return processes if isinstance(processes, list) else [], pids if isinstance(pids, list) else [state.pid]
