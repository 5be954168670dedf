"""`katapy create`: a container that waits for `start`."""

from argparse import Namespace

from katapy.cli import creation


def run(args: Namespace) -> int:
    options = creation.CreateOptions(args.root, args.id, args.bundle, args.console_socket, detach=True)
    creation.create(options, creation.publish_pid(args.pid_file))
    return 0
