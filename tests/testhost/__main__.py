"""`make testhost CMD='...'`: starts a test host, runs a shell command in it, takes it down.

    .venv/bin/python tests/testhost [--suite NAME] COMMAND

The command's output and exit status are passed on; what this program has to say goes to stderr.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[0:1] = [str(TESTS.parent), str(TESTS), str(TESTS.parent / "guest-image")]

from steps import BuildError, step  # noqa: E402
from testhost.host import TestHost  # noqa: E402
from testhost.session import Listener, TestHostError  # noqa: E402

_FAILED = 125
"""As Podman says it: the fault is not the command's."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="testhost", description="run a shell command in a test host")
    parser.add_argument("--suite", default=os.environ.get("KATAPY_TESTHOST_SUITE", ""), help="Debian's release in it")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds until the command is killed")
    parser.add_argument("--warm", action="store_true", help="with a template of katapy: machines start in seconds")
    parser.add_argument("command", help="for sh -c, in the checkout's copy")
    args = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(_FAILED))
    try:
        return _run(args)
    except (BuildError, TestHostError, TimeoutError) as e:
        print(f"testhost: error: {e}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(args: argparse.Namespace) -> int:
    with step("test host: start"):
        host = TestHost(args.suite, warm=args.warm)
    with host:
        began = time.monotonic()
        done = host.run(["sh", "-c", args.command], deadline_s=args.timeout, out=_write(1), err=_write(2))
        print(f"  test host: status {done.status} after {time.monotonic() - began:.1f} s", file=sys.stderr)
        return done.status


def _write(fd: int) -> Listener:
    def write(data: bytes) -> None:
        while data:
            data = data[os.write(fd, data) :]

    return write


if __name__ == "__main__":
    raise SystemExit(main())
