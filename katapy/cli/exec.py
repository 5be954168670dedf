"""`katapy exec`: a process in a running container.

Foreground: its output and exit status; --detach: a stand-in that goes on.
"""

import contextlib
from typing import Any

from katapy.cli import creation, foreground, terminal
from katapy.cli.parse import Args
from katapy.cli.supervisor_process import check_not_frozen
from katapy.control import client
from katapy.errors import UsageError, WrongStatus
from katapy.oci.validate import load_process
from katapy.sandbox import standin_view, store
from katapy.sandbox.plan import console_size
from katapy.standin import Standin, StandinSpec

_EXEC_S = 60.0
"""The guest may be slow (TCG) and busy; a process that is not started by then is not going to be."""


def run(args: Args) -> int:
    """Raises KatapyError; the edge turns any into status 255."""
    state = store.live_status(args.root, args.id)
    if state.status == "stopped":
        raise WrongStatus("cannot exec in a stopped container")
    check_not_frozen(state)
    request = _request(args)
    tty = bool((request.get("process") or request["flags"]).get("terminal" if "process" in request else "tty"))
    terminal.check_console_socket(args.console_socket, tty, args.detach)
    standin = _start(args, state, request, tty)
    if args.detach:
        return 0
    with terminal.raw_terminal(0) if tty else contextlib.nullcontext():
        return foreground.wait_for(standin.pid)


def _request(args: Args) -> dict[str, Any]:
    common = {"id": args.id, "cgroup": args.cgroup, "ignore_paused": args.ignore_paused}
    if args.process:
        return {**common, "process": load_process(args.process)}
    if not args.command:
        raise UsageError("process args cannot be empty")
    flags = {
        "args": args.command,
        "cwd": args.cwd,
        "env": list(args.env),
        "user": args.user,
        "additional_gids": [_gid(g) for g in args.additional_gids],
        "caps": list(args.cap),
        "tty": args.tty,
        "no_new_privs": args.no_new_privs,
    }
    return {**common, "flags": flags}


def _gid(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**32 - 1):
        raise UsageError(f"--additional-gids {text[:40]!r} is not a group id")
    return int(text)


def _start(args: Args, state: store.State, request: dict[str, Any], tty: bool) -> Standin:
    publish = creation.publish_pid(args.pid_file)
    with contextlib.ExitStack() as undo:
        fds, slave = creation.stdio(args.console_socket, console_size(request.get("process") or {}), undo)
        name = str(((request.get("process") or request.get("flags") or {}).get("args") or ["exec"])[0])
        standin = standin_view.spawn(StandinSpec(name=name, terminal=slave), creation.cgroup_of(state))
        failed = undo.enter_context(contextlib.ExitStack())
        failed.callback(creation.end_standin, standin)
        standin_view.release(standin)
        client.call(
            store.control_path(args.root, state.sandbox),
            "exec",
            {**request, "terminal": tty, "pid": standin.pid},
            deadline_s=_EXEC_S,
            fds=(*fds, standin.channel.fileno()),
        )
        publish(standin.pid)
        failed.pop_all()
    standin.channel.close()
    return standin
