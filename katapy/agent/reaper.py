"""Whose child has ended: PID 1 inherits every orphan of the machine and has to collect them all. Runs in the agent.

One SIGCHLD handler in the event loop. A process that somebody waits for is `watch`ed by pid; crun's grandchildren can
end before their pid is known, so while a launch is on (`adopting`) the status of unknown children is kept.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

UNCLAIMED_LIMIT = 4096


def exit_status(wait_status: int) -> int:
    """0 to 255: the exit status, or 128 + the signal that ended it."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


class Reaper:
    def __init__(self) -> None:
        self._watched: dict[int, asyncio.Future[int]] = {}
        self._unclaimed: dict[int, int] = {}
        self._launches = 0

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_signal_handler(signal.SIGCHLD, self.reap)
        self.reap()

    def watch(self, pid: int) -> "asyncio.Future[int]":
        """A future that gets the exit status (0 to 255) of the child `pid`."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        status = self._unclaimed.pop(pid, None)
        if status is None:
            self._watched[pid] = future
        else:
            future.set_result(status)
        return future

    @contextmanager
    def adopting(self) -> Iterator[None]:
        """While this lasts, the status of children that nobody watches yet is kept for a `watch` to come."""
        self._launches += 1
        try:
            yield
        finally:
            self._launches -= 1
            if not self._launches:
                self._unclaimed.clear()

    def reap(self) -> None:
        """Collects every child that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended(pid, exit_status(status))

    def _ended(self, pid: int, status: int) -> None:
        future = self._watched.pop(pid, None)
        if future is not None:
            if not future.done():
                future.set_result(status)
        elif self._launches and len(self._unclaimed) < UNCLAIMED_LIMIT:
            self._unclaimed[pid] = status
