"""`katapy exec`: a process in a running container.

Foreground: its output and exit status; --detach: a stand-in that goes on.
"""

import contextlib
import sys
import time

from katapy import cgroups
from katapy.cli import attach, foreground
from katapy.cli.parse import Args
from katapy.cli.supervisor_process import check_not_frozen
from katapy.control import client
from katapy.errors import UsageError, WrongStatus
from katapy.sandbox import standin_view, store
from katapy.standin import Standin, StandinSpec

TYPE_CHECKING = False  # typing's own constant costs typing
if TYPE_CHECKING:
    from typing import Any

_EXEC_S = 60.0
"""The guest may be slow (TCG) and busy; a process that is not started by then is not going to be."""
_PAUSED_S = 86400.0
"""As long as somebody may leave a container paused; as with runc, whoever says --ignore-paused waits for `resume`."""


def run(args: Args) -> int:
    """Raises KatapyError; the edge turns any into status 255."""
    state = store.live_status(args.root, args.id)
    if state.status == "stopped":
        raise WrongStatus("cannot exec in a stopped container")
    check_not_frozen(state)
    if args.ignore_paused and state.status == "paused":
        path = store.control_path(args.root, state.sandbox)
        client.call(path, "resumed", {"id": state.id}, deadline_s=_PAUSED_S)
    request = _request(args)
    tty = bool((request.get("process") or request["flags"]).get("terminal" if "process" in request else "tty"))
    _check_terminal(args, tty)
    standin, timings = _start(args, state, request, tty)
    if args.detach:
        return 0
    with _raw_terminal() if tty else contextlib.nullcontext():
        status = foreground.wait_for(standin.pid)
    if args.timings:
        _print_timings(timings, time.monotonic())
    return status


def _print_timings(timings: "dict[str, float]", end: float) -> None:
    """Lengths in seconds: of what the supervisor measured, and of the steps here."""
    to_its_end = end - timings.pop("answered at")
    for name, seconds in {**timings, "to its end": to_its_end}.items():
        print(f"{name:<24} {seconds:8.4f} s", file=sys.stderr)


def _check_terminal(args: Args, tty: bool) -> None:
    if tty or args.console_socket:  # seldom: what exec imports is what it costs
        from katapy.cli import terminal

        terminal.check_console_socket(args.console_socket, tty, args.detach)


def _raw_terminal() -> "contextlib.AbstractContextManager[None]":
    from katapy.cli import terminal

    return terminal.raw_terminal(0)


def _request(args: Args) -> "dict[str, Any]":
    common = {"id": args.id, "cgroup": args.cgroup, "timings": args.timings}
    if args.process:
        from katapy.oci.validate import load_process

        return {**common, "process": load_process(args.process)}
    if not args.command:
        raise UsageError("process args cannot be empty")
    if args.cap:
        from katapy.oci.capabilities import complaint

        if unknown := complaint(args.cap):
            args.log.warning(unknown)
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


def _start(args: Args, state: store.State, request: "dict[str, Any]", tty: bool) -> "tuple[Standin, dict[str, float]]":
    begun = time.monotonic()
    publish = attach.publish_pid(args.pid_file)
    with contextlib.ExitStack() as undo:
        fds, slave = attach.stdio(args.console_socket, _console_size(args, request), undo)
        name = str(((request.get("process") or request.get("flags") or {}).get("args") or ["exec"])[0])
        cgroup = cgroups.reopen(state.cgroup, store.directory(args.root, state.id))
        standin = standin_view.spawn(StandinSpec(name=name, terminal=slave), cgroup.procs_files())
        failed = undo.enter_context(contextlib.ExitStack())
        failed.callback(attach.end_standin, standin)
        standin_view.release(standin)
        standin_there = time.monotonic()
        answer = client.call(
            store.control_path(args.root, state.sandbox),
            "exec",
            {**request, "terminal": tty, "pid": standin.pid},
            deadline_s=_EXEC_S,
            fds=(*fds, standin.channel.fileno()),
        )
        answered = time.monotonic()
        publish(standin.pid)
        failed.pop_all()
    standin.channel.close()
    steps = {"stand-in": standin_there - begun, "request": answered - standin_there, "answered at": answered}
    measured: Any = answer["timings"]
    return standin, {**measured, **steps}


def _console_size(args: Args, request: "dict[str, Any]") -> tuple[int, int] | None:
    if not args.console_socket:
        return None
    from katapy.sandbox.plan import console_size

    return console_size(request.get("process") or {})
