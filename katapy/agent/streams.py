"""A process's stdio as the agent holds it: three pipes, or the master of a terminal. Runs in the agent.

`Pipes` or `Console` make the descriptors before crun runs and give one side away; `Streams` is what remains. All own
what they hold. The pipes are the only buffer: what nobody reads stays in them, and the process waits.
"""

import array
import fcntl
import os
import socket
import struct
import termios

from katapy.errors import AgentError

OUTPUT_CHUNK = 256 * 1024
"""Bytes of output in one message: four times the 64 KiB of stdin, because a message costs the agent milliseconds."""
PIPE_BYTES = 4 * OUTPUT_CHUNK
"""Capacity of stdout and stderr: a few messages, so that process and agent need not take turns for every one."""


class Streams:
    """Descriptors by name; None when closed. For a terminal, stdin and stdout are the same one and stderr is None."""

    def __init__(self, stdin: int, stdout: int, stderr: int | None, terminal: bool) -> None:
        self.stdin: int | None = stdin
        self.stdout: int | None = stdout
        self.stderr: int | None = stderr
        self.terminal = terminal
        self.unsent: dict[int, bytes] = {}
        """By output: what was read and could not be sent before the host's stream ended."""

    def close_stdin(self) -> None:
        """End of file for the process. A terminal has none: that is ^D, which the caller sends."""
        if self.stdin is not None and not self.terminal:
            os.close(self.stdin)
            self.stdin = None

    def close_output(self, fd: int) -> None:
        """One output is at its end. A terminal is at its end as a whole."""
        if self.terminal:
            self.stdin = None
        if fd == self.stdout:
            self.stdout = None
        elif fd == self.stderr:
            self.stderr = None
        else:
            return
        os.close(fd)

    def close(self) -> None:
        for fd in {self.stdin, self.stdout, self.stderr}:
            if fd is not None:
                os.close(fd)
        self.stdin = self.stdout = self.stderr = None

    def resize(self, columns: int, rows: int) -> None:
        """Sets the terminal's size; nothing for pipes, or if the terminal is closed."""
        if self.terminal and self.stdout is not None:
            fcntl.ioctl(self.stdout, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def outputs(self) -> list[int]:
        return [fd for fd in (self.stdout, self.stderr) if fd is not None]


def pending(fd: int) -> int:
    """Bytes that wait to be read."""
    buffer = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, buffer)
    return buffer[0]


class Pipes:
    """stdio by three pipes. `child` goes to crun as descriptors 0, 1, 2."""

    def __init__(self) -> None:
        self.arguments: list[str] = []
        child_stdin, stdin = os.pipe()
        stdout, child_stdout = os.pipe()
        stderr, child_stderr = os.pipe()
        self.child = (child_stdin, child_stdout, child_stderr)
        self._own = (stdin, stdout, stderr)
        for fd in self._own:
            os.set_blocking(fd, False)
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def take(self) -> Streams:
        """The agent's side, once crun has succeeded. The child's side is closed, or its end would never be seen."""
        _close(self.child)
        return Streams(*self._own, terminal=False)

    def abandon(self) -> None:
        _close(self.child + self._own)


class Console:
    """stdio by a terminal that crun makes: its master comes over a socket of ours, whose path crun is told."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(1)
        self._listener.setblocking(False)
        self._null = os.open(os.devnull, os.O_RDWR)
        self.child = (self._null, self._null, self._null)
        self.arguments = ["--console-socket", path]

    def take(self) -> Streams:
        """The terminal's master: crun has sent it before it ended. Raises AgentError if it has not."""
        try:
            connection, _ = self._listener.accept()
            with connection:
                _data, fds, _flags, _address = socket.recv_fds(connection, 4096, 1)
        except BlockingIOError as error:
            raise AgentError("crun did not send a terminal") from error
        if not fds:
            raise AgentError("crun sent no terminal over the console socket")
        self.abandon()
        os.set_inheritable(fds[0], False)
        os.set_blocking(fds[0], False)
        return Streams(fds[0], fds[0], None, terminal=True)

    def abandon(self) -> None:
        _close((self._null,))
        self._listener.close()
        os.unlink(self._path)


def _close(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)
