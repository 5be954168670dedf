"""Terminals: a pty whose master goes to an engine's console socket, or the caller's own terminal made raw. CLI only."""

import contextlib
import fcntl
import os
import socket
import stat
import struct
import termios
import tty
from collections.abc import Iterator

from katapy.errors import HostError, UsageError, errno_text


def open_console(console_socket: str, size: tuple[int, int] | None) -> int:
    """Makes a pty, sends its master to the socket (runc's protocol: its name, one descriptor) and returns the slave.

    The guest's own terminal does echo and line editing, so this one passes bytes as they are. `size`: columns, rows.
    """
    master, slave = os.openpty()
    try:
        tty.setraw(slave)
        if size is not None:
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(10)
            connection.connect(console_socket)
            socket.send_fds(connection, [os.ttyname(slave).encode()], [master])
    except OSError as e:
        os.close(slave)
        raise HostError(f"console socket {console_socket}: {errno_text(e)}") from e
    finally:
        os.close(master)
    return slave


def check_console_socket(path: str, terminal: bool, detach: bool) -> None:
    """The combinations that runc refuses, in its words, and a path where nobody can listen, before anything is made.

    Raises UsageError, HostError.
    """
    if terminal and detach and not path:
        raise UsageError("cannot allocate tty if katapy will detach without setting console socket")
    if path and not (terminal and detach):
        raise UsageError("cannot use console socket if katapy will not detach or allocate tty")
    if path:
        _check_socket(path)
    elif terminal and not any(os.isatty(fd) for fd in (0, 1, 2)):
        _check_own_terminal()


def _check_own_terminal() -> None:
    """In the foreground a container's terminal is the caller's; one that has none would never see the end of it."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError as e:
        raise HostError(f"open /dev/tty: {errno_text(e)}") from e


def _check_socket(path: str) -> None:
    """To connect would take an engine's one connection: it listens for no second."""
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError as e:
        raise HostError(f"console socket {path}: {errno_text(e)}") from e
    if not is_socket:
        raise HostError(f"console socket {path}: connection refused")


@contextlib.contextmanager
def raw_terminal(fd: int) -> Iterator[None]:
    """The caller's terminal without echo, line editing and signals while the block runs; anything else is left
    alone."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
