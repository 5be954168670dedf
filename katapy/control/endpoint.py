"""Unix stream sockets by path, of any length: CLI (connect) and supervisor (listen, before it imports asyncio).

A socket's address holds 107 bytes; a longer path is reached through /proc/self/fd/<its folder>. Built on `_socket`, the
C half of `socket`: `import socket` costs as much as half an interpreter start.
"""

import _socket
import errno
import os
import sys
import time

from katapy.control.messages import MAX_LINE
from katapy.errors import HostError, KatapyError, Timeout, errno_text

MAX_ADDRESS = 107
_CONTROL_BACKLOG = 64


class SupervisorGone(KatapyError):
    """Nobody listens on the control socket, or the listener ended before it answered. Callers look into state.json."""


def _short(path: str) -> tuple[str, int]:
    """(address, descriptor of the folder that the address goes through, or -1). The caller closes the descriptor."""
    if len(os.fsencode(path)) <= MAX_ADDRESS:
        return path, -1
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{folder}/{os.path.basename(path)}", folder


def listen(path: str) -> _socket.socket:
    """A listening socket at `path` (0600), blocking, close-on-exec. The caller owns it. Raises HostError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    folder = -1
    try:
        address, folder = _short(path)
        sock.bind(address)
        os.chmod(path, 0o600)
        sock.listen(_CONTROL_BACKLOG)
    except OSError as e:
        sock.close()
        raise HostError(f"listen on {path}: {errno_text(e)}") from e
    finally:
        if folder >= 0:
            os.close(folder)
    return sock


def connect(path: str, deadline: float) -> _socket.socket:
    """A connection to `path`, until time.monotonic() is `deadline`. The caller owns it.

    Raises SupervisorGone if nobody listens, Timeout if the listener accepts nothing (frozen: its backlog is full).
    """
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    folder = -1
    try:
        # A non-blocking connect to a full backlog fails at once; a blocking one waits as long as SO_SNDTIMEO says.
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, _timeval(deadline - time.monotonic()))
        address, folder = _short(path)
        sock.connect(address)
    except OSError as e:
        sock.close()
        if e.errno in (errno.EAGAIN, errno.EINPROGRESS):
            raise Timeout(f"the supervisor at {path} does not accept connections: it may be frozen") from e
        if e.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
            raise SupervisorGone(f"no supervisor listens on {path}") from e
        raise HostError(f"connect to {path}: {errno_text(e)}") from e
    finally:
        if folder >= 0:
            os.close(folder)
    return sock


def _timeval(seconds: float) -> bytes:
    """struct timeval of a 64-bit kernel; never zero, which would mean forever."""
    microseconds = max(1000, int(seconds * 1_000_000))
    whole, fraction = divmod(microseconds, 1_000_000)
    return whole.to_bytes(8, sys.byteorder) + fraction.to_bytes(8, sys.byteorder)


def send(sock: _socket.socket, line: bytes, descriptors: tuple[int, ...], deadline: float) -> None:
    """Sends `line`, the descriptors on its first byte. Raises TimeoutError, OSError."""
    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in descriptors)
    sock.settimeout(max(0.001, deadline - time.monotonic()))
    sent = sock.sendmsg([line], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if rights else [])
    if sent < len(line):
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        sock.sendall(line[sent:])


def peer(sock: _socket.socket) -> tuple[int, int, int]:
    """pid, uid, gid of who is at the other end, as they were when it connected or listened. Raises OSError."""
    raw = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    pid, uid, gid = (int.from_bytes(raw[at : at + 4], sys.byteorder) for at in (0, 4, 8))
    return pid, uid, gid


def receive(sock: _socket.socket, deadline: float) -> bytes:
    """At least one byte, or b"" at the end. Raises TimeoutError, OSError."""
    sock.settimeout(max(0.001, deadline - time.monotonic()))
    return sock.recv(min(MAX_LINE, 262144))
