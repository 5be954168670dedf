"""Reading and writing non-blocking descriptors from the event loop, one chunk at a time. Runs in the agent.

asyncio's own pipe transports read ahead into memory; these read only when somebody asks: back pressure needs that.
"""

import asyncio
import errno
import os


class Waiter:
    """Waits until a descriptor can be read, has ended or failed; one wait at a time. Does not own the descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._ready: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        loop.add_reader(self._fd, self.wake)
        try:
            await self._ready
        finally:
            loop.remove_reader(self._fd)

    def wake(self) -> None:
        """Ends a wait, if there is one, though nothing need have come."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)


async def readable(fd: int) -> None:
    """Returns when `fd` can be read, has ended or failed. Nobody else may wait for the same descriptor."""
    await Waiter(fd).wait()


async def writable(fd: int) -> None:
    """Returns when `fd` can be written or has failed."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(fd, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def read_now(fd: int, size: int) -> bytes | None:
    """What is there, at most `size`; b"" at the end, None if one would have to wait.

    A terminal whose other side has closed is at its end.
    """
    try:
        return os.read(fd, size)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno == errno.EIO:
            return b""
        raise


async def write_all(fd: int, data: bytes) -> None:
    """Writes all of `data`, waiting as often as the reader makes it. Raises BrokenPipeError if there is none."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            await writable(fd)


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
