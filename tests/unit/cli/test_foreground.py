"""What `run` and `exec` do with signals, in a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import katapy

_WAITS = """
import os, signal, subprocess, sys
from katapy.cli import foreground
child = subprocess.Popen(["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"])
status = foreground.wait_for(child.pid)
for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGWINCH, signal.SIGUSR1):
    signal.raise_signal(signum)
print("cleaned up after", status)
"""


def test_signals_go_to_the_stand_in_and_later_ones_nowhere() -> None:
    environment = {"PYTHONPATH": str(Path(katapy.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", _WAITS], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    while not _catches(process.pid, signal.SIGTERM):
        os.sched_yield()
    process.terminate()
    assert process.communicate(timeout=20)[0] == "cleaned up after 7\n"
    assert process.returncode == 0


def _catches(pid: int, signum: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(caught >> (signum - 1) & 1)
