"""`katapy events`: statistics in runc's shape, once or every interval, and out-of-memory kills as they happen."""

from katapy import quickjson
from katapy.cli.log import write_output
from katapy.cli.parse import Args
from katapy.cli.supervised import ask
from katapy.cli.supervisor_process import check_not_frozen
from katapy.control import client
from katapy.errors import UsageError, WrongStatus
from katapy.oci.sizes import parse_duration
from katapy.sandbox import store

_SLACK_S = 60.0
"""A busy guest may be late with its statistics."""


def run(args: Args) -> int:
    state = store.live_status(args.root, args.id)
    interval = parse_duration(args.interval)
    if interval <= 0:
        raise UsageError("duration interval must be greater than 0")
    stopped = f"container with id {args.id} is not running"
    if args.stats:
        answer = ask(args.root, state, "stats", {}, stopped)
        _print({"type": "stats", "id": args.id, "data": answer.get("stats")})
        return 0
    check_not_frozen(state)
    if state.status == "stopped" or not _follow(args, state, max(1, round(interval))):
        raise WrongStatus(stopped)
    return 0


def _follow(args: Args, state: store.State, interval_s: int) -> bool:
    """Until the container ends: with it ends the stream, or the supervisor. False if there was no event at all."""
    path = store.control_path(args.root, state.sandbox)
    fields: dict[str, object] = {"id": args.id, "interval_s": interval_s}
    seen = False
    try:
        for event in client.stream(path, "events", fields, silence_s=interval_s + _SLACK_S):
            _print(event)
            seen = True
    except client.SupervisorGone:
        return seen
    return True


def _print(event: dict[str, object]) -> None:
    write_output(quickjson.dumps(event) + "\n")
