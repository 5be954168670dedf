"""`katapy kill`: a signal for the container's process, or for all of its processes."""

from katapy.cli.parse import Args
from katapy.cli.supervised import ask
from katapy.oci.signals import signal_number
from katapy.sandbox import store


def run(args: Args) -> int:
    state = store.live_status(args.root, args.id)
    number = signal_number(args.command[0] if args.command else "SIGTERM")
    if args.all and state.status == "stopped":
        return 0  # as runc: engines sweep what an ended container left, and there is nothing left
    ask(args.root, state, "kill", {"signal": number, "all": args.all}, "container not running")
    return 0
