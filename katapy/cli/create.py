"""`katapy create`: a container that waits for `start`."""

from katapy.cli import attach, creation
from katapy.cli.parse import Args


def run(args: Args) -> int:
    creation.create(creation.options_of(args, detach=True), attach.publish_pid(args.pid_file))
    return 0
