"""crun: its command lines (pure), how it is started, and what it says when it fails. Runs in the agent."""

import asyncio
import contextlib
import json
import os
import signal

from katapy.agent.init import set_oom_score
from katapy.agent.reaper import Reaper
from katapy.errors import AgentError
from katapy.protocol import names

CRUN = "/usr/bin/crun"
ROOT = f"{names.GUEST_RUN}/crun"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR": names.GUEST_RUN}
LOG_LIMIT = 64 * 1024
MESSAGE_LIMIT = 2000
"""Characters of crun's message that are passed on."""


def command(log: str, *arguments: str) -> list[str]:
    """crun's argv for a verb and its arguments; errors go to the file `log`."""
    return [CRUN, f"--root={ROOT}", "--cgroup-manager=cgroupfs", f"--log=file:{log}", "--log-format=json", *arguments]


def last_message(log: str) -> str:
    """The error that crun wrote last to its log, as one plain line; empty if it wrote none."""
    for line in reversed(log.splitlines()):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("msg"), str):
            return " ".join(record["msg"].split())[:MESSAGE_LIMIT]
    return ""


def spawn(argv: list[str], stdio: tuple[int, int, int]) -> int:
    """Starts a child with these three descriptors and nothing else of ours; returns its pid. Raises OSError.

    Signals are as at a program's birth and the OOM score is an ordinary one: both would be inherited by containers.
    """
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(stdio)]
    ignored = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ}
    set_oom_score(0)
    try:
        return os.posix_spawn(argv[0], argv, ENVIRONMENT, file_actions=actions, setsigmask=(), setsigdef=ignored)
    finally:
        set_oom_score(-1000)


async def run(reaper: Reaper, log: str, arguments: list[str], stdio: tuple[int, int, int] | None = None) -> None:
    """Runs crun to its end. Raises AgentError with crun's message. If the caller is cancelled, crun is killed."""
    if stdio is None:
        with open(os.devnull, "r+b", buffering=0) as null:
            pid = spawn(command(log, *arguments), (null.fileno(),) * 3)
    else:
        pid = spawn(command(log, *arguments), stdio)
    ended = reaper.watch(pid)
    try:
        status = await asyncio.shield(ended)
    except asyncio.CancelledError:
        if not ended.done():
            os.kill(pid, signal.SIGKILL)
            await ended
        raise
    message = _take_log(log)
    if status != 0:
        raise AgentError(message or f"crun {arguments[0]} failed with status {status}")


def _take_log(log: str) -> str:
    """The last message of the log file, which is removed."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - LOG_LIMIT))
            return last_message(file.read())
    except FileNotFoundError:
        return ""
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(log)
