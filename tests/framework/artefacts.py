"""What a failed test leaves for whoever looks into it: logs, state, command lines. Runs in pytest."""

import re
import shutil
from pathlib import Path

from framework import processes
from framework.runtime import Runtime

_MAX_FILE = 4 * 1024 * 1024
_TAIL_LINES = 30
_SHOWN = (".log", ".err")


def collect(target: Path, runtimes: list[Runtime]) -> str:
    """Copies files of the state roots to `target`, and returns the tails of the logs for the report."""
    shutil.rmtree(target, ignore_errors=True)
    report = []
    for runtime in runtimes:
        for id in runtime.ids():
            folder = target / id
            folder.mkdir(parents=True, exist_ok=True)
            report += [_copy(path, folder) for path in sorted((runtime.root / id).iterdir())]
            (folder / "processes").write_text(_commands(id))
    return "".join(report)


def folder_name(nodeid: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", nodeid)[-150:]


def _copy(path: Path, folder: Path) -> str:
    """Its tail, if it is a log."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _MAX_FILE:
        return ""
    data = path.read_bytes()
    (folder / path.name).write_bytes(data)
    if path.suffix not in _SHOWN or not data:
        return ""
    tail = data.decode(errors="replace").splitlines()[-_TAIL_LINES:]
    return f"--- {path}\n" + "\n".join(tail) + "\n"


def _commands(id: str) -> str:
    return "\n".join(f"{p.pid} {p.state} {p.command}" for p in processes.all_processes().values() if id in p.command)
