"""What a hot verb imports is what it costs: `state` may take 2.5 bare interpreter starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from katapy.sandbox import store

CHECKOUT = Path(__file__).parents[3]
FORBIDDEN = {
    "argparse", "asyncio", "collections", "dataclasses", "datetime", "enum", "functools", "grpc", "importlib",
    "inspect", "json", "logging", "msgspec", "pathlib", "re", "shutil", "signal", "socket", "subprocess", "tempfile",
    "jeepney", "threading", "typing", "yaml",
}  # fmt: skip
PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from katapy.cli.main import main
status = main()
sys.stderr.write(' '.join(sys.modules))
raise SystemExit(status)
"""


@pytest.mark.parametrize(
    "argv, status",
    [("state c1", 0), ("list", 0), ("list -f json", 0), ("kill c1", 1), ("start c1", 1), ("pause c1", 1), ("-v", 0),
     ("delete -f nosuch", 0), ("ps c1", 0), ("features", 0), ("state nosuch", 1)],
)  # fmt: skip
def test_hot_verbs_import_nothing_heavy(tmp_path: Path, argv: str, status: int) -> None:
    root = str(tmp_path)
    store.reserve(root, "c1")
    start = store.start_time(os.getpid())
    store.save(
        root,
        store.State(
            id="c1", sandbox="c1", bundle="/b", status="running", supervisor_pid=os.getpid(), supervisor_start=start
        ),
    )
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(CHECKOUT), "--root", root, *argv.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert FORBIDDEN.isdisjoint(done.stderr.splitlines()[-1].split()), argv
