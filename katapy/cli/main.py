"""`katapy`: argv -> one verb's `run(args) -> exit status`, and the one edge where errors become text and a status.

Verbs are imported by name after parsing. What this module imports, every `katapy state` pays for: see
tests/unit/cli/test_imports.py. Runs with `-I -S`, in milliseconds.
"""

import os
import sys

from katapy import __version__
from katapy.cli.log import Log, write_output
from katapy.cli.parse import Args, BadUsage, parse
from katapy.cli.table import VERBS
from katapy.errors import KatapyError, Unsupported, UsageError
from katapy.oci import SPEC_VERSION

_UNSUPPORTED = {
    "checkpoint": "checkpoint is not supported: a virtual machine's memory can't be dumped by CRIU",
    "restore": "restore is not supported: a virtual machine's memory can't be restored by CRIU",
}


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0, a command's own (run, exec), 3 unknown verb, 255 failed exec, otherwise 1."""
    _open_missing_stdio()
    args, log = Args(), Log()
    try:
        return _run(sys.argv[1:] if argv is None else argv, args, log)
    except KatapyError as e:
        return _fail(e, args, log)
    except KeyboardInterrupt:
        return 130
    except Exception as e:
        # A bug, or the host in a state nobody thought of: still one line, and the place with --debug.
        return _fail(KatapyError(f"internal error: {type(e).__name__}: {e}"), args, log, e)


def _open_missing_stdio() -> None:
    """Whoever calls may have closed some (`katapy run <&-`). What is opened later must not become one of them: a
    container would write into a log or a control socket. As Go's runtime does it for runc."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest one that is free


def _run(argv: list[str], args: Args, log: Log) -> int:
    try:
        parse(argv, args)
    except UsageError:
        log.open(getattr(args, "log", ""), getattr(args, "log_format", "text"), getattr(args, "debug", False))
        raise
    log_path = args.log
    args.log = log
    log.open(log_path, args.log_format, args.debug)
    if args.version:
        write_output(f"katapy version {__version__}\ncommit: v{__version__}\nspec: {SPEC_VERSION}\n{_python()}")
        return 0
    if args.help or not args.verb:
        from katapy.cli import help

        write_output(help.text(args.verb))
        return 0
    _check_globals(args)
    _refuse_unsupported(args)
    log.debug(f"katapy {__version__}: {args.verb} {args.id} (root {args.root})")
    status: int = __import__(f"katapy.cli.{args.verb}", fromlist=("run",)).run(args)
    log.debug(f"{args.verb} {args.id}: status {status}")
    return status


def _refuse_unsupported(args: Args) -> None:
    if args.verb in _UNSUPPORTED:
        raise Unsupported(_UNSUPPORTED[args.verb])
    for flag in VERBS[args.verb].flags:
        if flag.refused and getattr(args, flag.attribute):
            raise Unsupported(f"--{flag.names[0]} is not supported: {flag.refused}")


def _python() -> str:
    return f"python: {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}\n"


def _check_globals(args: Args) -> None:
    if args.rootless in ("true", "True", "1"):
        raise Unsupported("rootless containers are not supported: run katapy as root with --rootless=false or auto")
    if args.cgroup_manager not in ("cgroupfs", "systemd"):
        raise Unsupported(f"--cgroup-manager {args.cgroup_manager} is not supported: use cgroupfs or systemd")
    args.root = os.path.abspath(args.root or "/run/katapy")
    if args.root == "/":
        raise UsageError("the root directory of the host can't be --root: name a folder of its own")
    if args.configuration:
        os.environ["KATAPY_CONFIG"] = os.path.abspath(args.configuration)


def _fail(error: KatapyError, args: Args, log: Log, cause: BaseException | None = None) -> int:
    verb = VERBS.get(args.verb)
    usage = isinstance(error, BadUsage)
    if isinstance(error, BadUsage):
        from katapy.cli import help

        _write_usage(f"Incorrect Usage{error.detail}\n\n{help.text(error.verb)}")
    if log.debugging:
        import traceback

        log.debug("".join(traceback.format_exception(cause or error)))
    log.error((verb.prefix if verb and not usage else "") + " ".join(str(error).split("\n")))
    if usage or verb is None:
        return error.exit_status
    return verb.failure


def _write_usage(text: str) -> None:
    try:
        write_output(text)
    except KatapyError:
        pass  # the error itself is on its way
