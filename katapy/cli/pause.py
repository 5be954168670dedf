"""`katapy pause`: suspends all processes of a container."""

from katapy.cli.parse import Args
from katapy.cli.supervised import ask
from katapy.errors import WrongStatus
from katapy.sandbox import store


def run(args: Args) -> int:
    state = store.live_status(args.root, args.id)
    if state.status == "paused":
        raise WrongStatus("container not running")
    ask(args.root, state, "pause", {}, "container not running")
    return 0
