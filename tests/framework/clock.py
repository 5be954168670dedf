"""How far a guest's clock is from the host's, as closely as questions and answers can tell. Runs in pytest."""

import subprocess
import time
from datetime import datetime

from framework.bundle import Bundle
from framework.runtime import BOOT_S, Runtime

SCRIPT = "echo ready; while read x; do touch /dev/shm/now; stat -c %y /dev/shm/now; done"
_ROUNDS = 10


def bounds(runtime: Runtime, bundle: Bundle) -> tuple[float, float]:
    """Seconds that the guest is ahead, at least and at most. `bundle`: one that runs SCRIPT in a shell.

    What the guest says lies between question and answer; each round narrows it.
    """
    argv = ("run", "--bundle", bundle.path, runtime.new_id())
    process = runtime.popen(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    least, most = float("-inf"), float("inf")
    for _ in range(_ROUNDS):
        asked = time.time()
        process.stdin.write(b"\n")
        process.stdin.flush()
        said = _seconds(process.stdout.readline().decode())
        least, most = max(least, said - time.time()), min(most, said - asked)
    process.stdin.close()
    assert process.wait(BOOT_S) == 0
    process.stdout.close()
    return least, most


def _seconds(text: str) -> float:
    """Of `2026-11-22 10:00:00.123456789 +0000`."""
    day, clock, zone = text.split()
    return datetime.fromisoformat(f"{day}T{clock[:15]}{zone[:3]}:{zone[3:]}").timestamp()
