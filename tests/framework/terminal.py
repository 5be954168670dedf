"""Terminals: the test's end of a pty, and the console socket by which a runtime hands one over. Runs in pytest."""

import array
import fcntl
import os
import pty
import re
import select
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path

from framework.wait import PATIENCE


class Terminal:
    """The master of a pty. Owns the descriptor. What was read and not yet expected is kept in `text`."""

    def __init__(self, master: int, size: tuple[int, int] | None = None) -> None:
        self.master = master
        self.text = ""
        if size is not None:
            self.resize(*size)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.master)

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def expect(self, pattern: str, deadline_s: float = 20.0) -> re.Match[str]:
        """Reads until `pattern` is found and forgets what lies before its end. AssertionError at EOF or deadline."""
        end = time.monotonic() + deadline_s * PATIENCE
        while not (match := re.search(pattern, self.text)):
            if not self._read(end - time.monotonic()):
                raise AssertionError(f"the terminal never showed {pattern!r}, but: {self.text!r}")
        self.text = self.text[match.end() :]
        return match

    def rest(self, deadline_s: float = 20.0) -> str:
        """Everything up to the end (hang-up)."""
        end = time.monotonic() + deadline_s * PATIENCE
        while self._read(end - time.monotonic()):
            pass
        return self.text

    def _read(self, timeout_s: float) -> bool:
        if timeout_s <= 0 or not select.select([self.master], [], [], timeout_s)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: nobody holds the slave
            return False
        self.text += data.decode(errors="replace")
        return bool(data)


def spawn(argv: Sequence[str | Path], size: tuple[int, int] = (80, 24)) -> tuple["subprocess.Popen[bytes]", Terminal]:
    """Starts `argv` with a new controlling terminal of `size` (columns, rows)."""
    master, slave = pty.openpty()
    terminal = Terminal(master, size)
    process = subprocess.Popen(argv, preexec_fn=lambda: os.login_tty(slave))
    os.close(slave)
    return process, terminal


class ConsoleSocket:
    """A listening console socket, as conmon has one: `receive` gives the terminal that a runtime sent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()

    def __enter__(self) -> "ConsoleSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self.path.unlink()

    def receive(self, deadline_s: float = 60.0) -> Terminal:
        """Exactly one descriptor and a name, as go-runc demands."""
        self._socket.settimeout(deadline_s * PATIENCE)
        connection, _ = self._socket.accept()
        with connection:
            name, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4 * 8))
        found = array.array("i")
        for level, kind, data in ancillary:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            found.frombytes(data)
        assert len(found) == 1
        assert name
        return Terminal(found[0])
