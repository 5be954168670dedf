"""`katapy run`: create, start, and unless --detach: wait, delete, and exit with the container's status."""

import sys
from collections.abc import Mapping

from katapy.cli import attach, creation, delete, foreground, start, terminal
from katapy.cli.parse import Args
from katapy.errors import KatapyError


def run(args: Args) -> int:
    created = creation.create(creation.options_of(args, args.detach), attach.publish_pid(args.pid_file))
    if args.detach:
        _start(args)
        return 0
    with terminal.raw_terminal(0 if created.terminal else -1):
        _start(args)
        status = foreground.wait_for(created.pid)
    if args.timings:
        print_timings(created.timings, created.guest)
    if not args.keep:
        delete.delete(args.root, args.id, True, args.log)
    return status


def _start(args: Args) -> None:
    try:
        start.start(args.root, args.id, args.log)
    except KatapyError:
        delete.delete(args.root, args.id, True, args.log)
        raise


def print_timings(timings: Mapping[str, float], guest: Mapping[str, float]) -> None:
    """Milestones of the start on stderr: seconds since the call (or the guest's start), and since the one before."""
    for title, milestones in (("", timings), ("guest: ", guest)):
        previous = 0.0
        for name, seconds in milestones.items():
            print(f"{title + name:<24} {seconds:8.3f} s  +{seconds - previous:.3f}", file=sys.stderr)
            previous = seconds
