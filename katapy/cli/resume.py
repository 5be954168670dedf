"""`katapy resume`: lets a paused container go on."""

from katapy.cli.parse import Args
from katapy.cli.supervised import ask
from katapy.errors import WrongStatus
from katapy.sandbox import store


def run(args: Args) -> int:
    state = store.live_status(args.root, args.id)
    if state.status != "paused":
        raise WrongStatus("container not paused")
    ask(args.root, state, "resume", {}, "container not paused")
    return 0
