"""A process by `crun create` or `crun exec`: descriptors before, pid after, who it is then. Runs in the agent."""

import asyncio
import os
import signal
import time
from collections.abc import Callable

from katapy.agent import crun
from katapy.agent.reaper import Reaper
from katapy.agent.streams import Console, Pipes, Streams
from katapy.errors import AgentError, WrongStatus


class Process:
    """An init or an exec. Owns its pidfd and its streams until `close`."""

    def __init__(self, pid: int, exited: "asyncio.Future[int]", streams: Streams, crun_seconds: float = 0.0) -> None:
        self.pid = pid
        self.crun_seconds = crun_seconds
        """How long crun took to make it."""
        self.exited = exited
        self.streams = streams
        self.attached = False
        """Whether a Stdio call has the streams: one at a time."""
        try:
            self._pidfd: int | None = os.pidfd_open(pid)
        except ProcessLookupError:
            self._pidfd = None  # it has ended and is reaped already
        exited.add_done_callback(lambda _: self._forget_pidfd())

    @property
    def over(self) -> bool:
        """Whether it has ended and nobody is attached to what it left."""
        return self.exited.done() and not self.attached

    def signal(self, number: int) -> None:
        """Raises WrongStatus if the process has ended."""
        try:
            if self._pidfd is None or self.exited.done():
                raise ProcessLookupError
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            raise WrongStatus("process not running") from None

    async def wait(self) -> int:
        """The exit status, 0 to 255; a caller that gives up disturbs nobody."""
        return await asyncio.shield(self.exited)

    def close(self) -> None:
        self._forget_pidfd()
        self.streams.close()

    def _forget_pidfd(self) -> None:
        """Of what has ended only status and output are kept."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


async def launch(reaper: Reaper, scratch: str, terminal: bool, arguments: Callable[[list[str]], list[str]]) -> Process:
    """Runs crun and returns the process it left behind, which is our child by then.

    `scratch` is a path prefix for pid file, console socket and log. `arguments` makes crun's arguments from the options
    that are decided here. Raises AgentError with crun's message.
    """
    pid_file = f"{scratch}.pid"
    plumbing = Console(f"{scratch}.tty") if terminal else Pipes()
    try:
        with reaper.adopting():
            options = ["--pid-file", pid_file, *plumbing.arguments]
            begun = time.monotonic()
            await crun.run(reaper, f"{scratch}.log", arguments(options), plumbing.child)
            crun_seconds = time.monotonic() - begun
            pid = _read_pid(pid_file)
            exited = reaper.watch(pid)
    except BaseException:
        plumbing.abandon()
        raise
    return Process(pid, exited, plumbing.take(), crun_seconds)


def _read_pid(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            pid = int(file.read())
        os.unlink(path)
    except (OSError, ValueError) as error:
        raise AgentError("crun wrote no pid file") from error
    return pid
