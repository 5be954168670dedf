"""Progress lines, subprocesses and the error of the image build. Build host."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager


class BuildError(Exception):
    """The image can't be built; one line that names the object and the remedy."""


@contextmanager
def step(title: str) -> Iterator[None]:
    """Says on stderr what begins and, when it is done, how many seconds it took."""
    print(f"  {title} ...", file=sys.stderr, flush=True)
    began = time.monotonic()
    yield
    print(f"  {title}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)


def run(argv: Sequence[str], env: Mapping[str, str] | None = None, stdin: bytes | None = None, name: str = "") -> bytes:
    """Runs a program to its end and returns its stdout.

    Raises BuildError with the end of its stderr, and `name` where argv[0] is not what is meant.
    """
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, check=False, env=env)
    except FileNotFoundError as e:
        raise BuildError(f"{argv[0]} is not installed: run 'make setup'") from e
    if done.returncode != 0:
        tail = done.stderr.decode(errors="replace").strip().splitlines()[-5:]
        raise BuildError(f"{name or argv[0]} failed with status {done.returncode}: " + " | ".join(tail))
    return done.stdout
