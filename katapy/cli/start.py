"""`katapy start`: the process of a created container runs; then its poststart hooks do, on the host."""

import os

from katapy.cli.log import Log
from katapy.cli.parse import Args
from katapy.cli.supervised import ask
from katapy.errors import KatapyError, WrongStatus
from katapy.sandbox import store

START_S = 300.0
"""startContainer hooks run in the guest meanwhile, and they may have timeouts of their own."""
_REFUSED = {
    "running": "cannot start an already running container",
    "stopped": "cannot start a container that has stopped",
}


def run(args: Args) -> int:
    start(args.root, args.id, args.log)
    return 0


def start(root: str, container_id: str, log: Log | None = None) -> None:
    """Raises NotFound, WrongStatus (runc's words), and what the supervisor answers."""
    state = store.live_status(root, container_id)
    if state.status != "created" and not (state.status == "creating" and state.supervisor_pid):
        raise WrongStatus(_REFUSED.get(state.status, f"cannot start a container in the {state.status} state"))
    ask(root, state, "start", {}, _REFUSED["stopped"], START_S)
    if os.path.exists(f"{store.directory(root, container_id)}/{store.HOOKS}"):
        now = store.live_status(root, container_id)  # the state before may be of a `create` that was on its way
        _poststart(root, now if now.pid else state, log or Log())


def _poststart(root: str, state: store.State, log: Log) -> None:
    """runtime-spec 1.2: a poststart hook that fails is warned of, the container goes on."""
    from katapy.sandbox import hooks

    document = hooks.document(state, "running", state.pid)
    try:
        hooks.run("poststart", hooks.kept(store.directory(root, state.id)), document)
    except KatapyError as e:
        log.warning(str(e))
