"""What a public suite is to the runner: how it is made ready in a folder, and how one program of it is run."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Suite:
    """`prepare(folder)` does once what it finds undone; the functions after it take the folder it made ready.

    `command(folder, program)` is run in `folder` with `environment(folder, runtime)` and prints TAP. `status_tells`:
    its exit status says more than the points do, so that one other than 0 is a failure of its own.
    """

    prepare: Callable[[Path], None]
    programs: Callable[[Path], list[str]]
    command: Callable[[Path, str], Sequence[str]]
    environment: Callable[[Path, Path], Mapping[str, str]]
    status_tells: bool


def go(*arguments: str, cwd: Path, mod: str = "mod") -> str:
    """Runs the Go tool without cgo, so that what it builds is static. Returns what it prints."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": f"-mod={mod} -buildvcs=false"}
    return subprocess.run(
        ["go", *arguments], cwd=cwd, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
