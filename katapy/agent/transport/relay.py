"""The pump between the host's byte pipe and the server's unix socket. Runs in the agent's relay process.

Non-blocking and edge-triggered: `readable` and `writable` are set by poll, cleared when the kernel says EAGAIN.
"""

import errno
import fcntl
import os
import select
import socket
from collections.abc import Callable

CHUNK = 256 * 1024
EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
READABLE = select.EPOLLIN | select.EPOLLHUP | select.EPOLLRDHUP | select.EPOLLERR
WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENODEV, errno.ENOTCONN)
"""What a write says when the other side is no longer there."""

Dial = Callable[[], socket.socket]
"""Makes a new connection to the server. The caller owns the socket."""


class EndedError(Exception):
    """One of the two sides is no longer there."""


class Splicer:
    """source -> target by splice(2), without a detour through our memory: at most CHUNK bytes are in between.

    Owns the pipe in between, and neither source nor target.
    """

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self.readable = True
        self.writable = True
        self._held = 0
        self._out, self._in = os.pipe()
        fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, CHUNK)

    def move(self) -> None:
        """Moves what can be moved now. Raises EndedError when source or target have gone."""
        while self.flush() and self.readable:
            try:
                count = os.splice(self.source, self._in, CHUNK, flags=os.SPLICE_F_NONBLOCK)
            except BlockingIOError:
                self.readable = False
                return
            except OSError as error:
                raise _ended(error) from error
            if count == 0:
                raise EndedError
            self._held += count

    def flush(self) -> bool:
        """Writes out what is held as far as possible; whether nothing is left."""
        while self._held and self.writable:
            try:
                self._held -= os.splice(self._out, self.target, self._held, flags=os.SPLICE_F_NONBLOCK)
            except BlockingIOError:
                self.writable = False
            except OSError as error:
                raise _ended(error) from error
        return not self._held

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)


def _ended(error: OSError) -> Exception:
    return EndedError() if error.errno in GONE else error


def relay(one: socket.socket, other: socket.socket) -> None:
    """Pumps both ways until either side has ended. Blocks. The sockets stay the caller's."""
    pumps = Splicer(one.fileno(), other.fileno()), Splicer(other.fileno(), one.fileno())
    poll = select.epoll()
    try:
        for end in (one, other):
            end.setblocking(False)
            poll.register(end, EDGES)
        while True:
            for fd, events in poll.poll():
                for pump in pumps:
                    pump.readable |= fd == pump.source and bool(events & READABLE)
                    pump.writable |= fd == pump.target and bool(events & WRITABLE)
            for pump in pumps:
                pump.move()
    except EndedError:
        pass
    finally:
        poll.close()
        for pump in pumps:
            pump.close()
