"""`katapy create`: a container that waits for `start`."""

from katapy.cli import attach, creation
from katapy.cli.parse import Args


def run(args: Args) -> int:
    options = creation.CreateOptions(
        args.root, args.id, args.bundle, args.config, args.console_socket, detach=True, warn=args.log.warning
    )
    creation.create(options, attach.publish_pid(args.pid_file))
    return 0
