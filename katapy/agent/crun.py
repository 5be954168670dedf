"""crun: its command lines (pure), how it is started, and what it says when it fails. Runs in the agent."""

import asyncio
import contextlib
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
_NOTHING_TOLD = "fail startup"
"""The parent's word for an exec whose child has logged what happened."""


def command(log: str, *arguments: str) -> list[str]:
    """crun's argv for a verb and its arguments; errors go to the file `log`.

    As text: what goes wrong after `create` (the program can't be executed, a startContainer hook fails) is written by
    the container's init to the container's own stderr, in the same format.
    """
    return [CRUN, f"--root={ROOT}", "--cgroup-manager=cgroupfs", f"--log=file:{log}", "--log-format=text", *arguments]


def message(log: str) -> str:
    """What crun says of its failure, as one plain line; empty if it says nothing.

    A message may have several lines (it quotes what is in config.json), so there is no telling where the last begins.
    """
    lines = [line for line in log.splitlines() if line.strip()]
    told = [line for line in lines if line != _NOTHING_TOLD] or lines
    return " ".join(" ".join(told).split())[:MESSAGE_LIMIT]


def spawn(argv: list[str], stdio: tuple[int, int, int] | None = None) -> int:
    """Starts a child with these three descriptors (None: /dev/null) and nothing else of ours: its pid. Raises OSError.

    Signals are as at a program's birth and the OOM score is an ordinary one: both would be inherited by containers.
    """
    if stdio is None:
        with open(os.devnull, "r+b", buffering=0) as null:
            return spawn(argv, (null.fileno(),) * 3)
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(stdio)]
    ignored = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ}
    set_oom_score(0)
    try:
        return os.posix_spawn(argv[0], argv, ENVIRONMENT, file_actions=actions, setsigmask=(), setsigdef=ignored)
    finally:
        set_oom_score(-1000)


async def run(reaper: Reaper, log: str, arguments: list[str], stdio: tuple[int, int, int] | None = None) -> None:
    """Runs crun to its end. Raises AgentError with crun's message. If the caller is cancelled, crun is killed."""
    pid = spawn(command(log, *arguments), stdio)
    ended = reaper.watch(pid)
    try:
        status = await asyncio.shield(ended)
    except asyncio.CancelledError:
        if not ended.done():
            os.kill(pid, signal.SIGKILL)
            await ended
        raise
    said = _take_log(log)
    if status != 0:
        raise AgentError(said or f"crun {arguments[0]} failed with status {status}")


def _take_log(log: str) -> str:
    """The message in the log file, which is removed."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - LOG_LIMIT))
            return message(file.read())
    except FileNotFoundError:
        return ""
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(log)
