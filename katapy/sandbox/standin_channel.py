"""The supervisor's end of a stand-in's socket pair: signals in, exit status out, death noticed. Supervisor only."""

import asyncio
import contextlib
import os
from collections.abc import Callable

_MAX_LINE = 64


class StandinChannel:
    """Owns `fd`.

    Calls `on_signal(number)` for each line, `on_death()` when the stand-in was killed. In the running loop.
    """

    def __init__(self, fd: int, on_signal: Callable[[int], None], on_death: Callable[[], None]) -> None:
        self._fd = fd
        self._on_signal = on_signal
        self._on_death = on_death
        self._buffer = b""
        self._loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._readable)

    def finish(self, status: int) -> None:
        """Lets the stand-in exit with `status` (0 to 255). Idempotent; a stand-in that was killed is past caring."""
        if self._fd < 0:
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
            os.write(self._fd, b"%d\n" % status)
        self._close()

    def _close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._close()
            self._on_death()
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        self._buffer = self._buffer[-_MAX_LINE:]
        for line in lines:
            if line.isdigit():
                self._on_signal(int(line))
