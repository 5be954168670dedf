"""The zygote's socket, and whether somebody is still at the other end of a connection. Zygote only."""

import contextlib
import fcntl
import os
import select
import socket

from katapy.control import endpoint
from katapy.errors import HostError, errno_text
from katapy.zygote import wire

_LOCK = ".zygote.lock"


def listen(folder: str, stack: contextlib.ExitStack) -> socket.socket:
    """The socket, whose name goes with `stack`. One zygote for a folder of templates. Raises HostError."""
    path = f"{folder}/{wire.SOCKET}"
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        status = os.stat(folder)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise HostError(f"{folder} is not root's alone: chmod 700 it")
        lock = os.open(f"{folder}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    except BlockingIOError as e:
        raise HostError(f"another zygote serves {folder}") from e
    except OSError as e:
        raise HostError(f"can't serve in {folder}: {errno_text(e)}") from e
    listener = socket.socket(fileno=endpoint.listen(path).detach())
    stack.callback(listener.close)
    stack.callback(_unlink, path)
    listener.setblocking(False)
    return listener


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def has_gone(connection: socket.socket) -> bool:
    """Whether its other end is closed: that of a process that was killed is."""
    look = select.poll()
    look.register(connection, select.POLLRDHUP)
    return bool(look.poll(0))
