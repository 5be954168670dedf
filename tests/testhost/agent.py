"""Runs the owner's commands. A service of systemd in the test host; standard library only.

The port has one reader and one command runs at a time (frames.py says what goes over it).
"""

import base64
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from testhost import frames

CHUNK = 64 * 1024
PORTS = "/sys/class/virtio-ports"


def find_port() -> str:
    """The device node of our port; waits for it."""
    while True:
        for port in os.listdir(PORTS) if os.path.isdir(PORTS) else ():
            name = f"{PORTS}/{port}/name"  # the console's port has none
            with contextlib.suppress(OSError), open(name, encoding="utf-8") as file:
                if file.read().strip() == frames.PORT:
                    return f"/dev/{port}"
        time.sleep(0.05)


class Command:
    """A process, in a session of its own, with its pipes."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._input = os.memfd_create("input")
        os.write(self._input, base64.b64decode(request.get("input", "")))
        os.lseek(self._input, 0, os.SEEK_SET)
        self.process = subprocess.Popen(
            request["argv"],
            cwd=request.get("cwd") or "/",
            env={**os.environ, **request.get("env", {})},
            stdin=self._input,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._outputs = self.process.stdout, self.process.stderr
        self.pipes = {self.process.stdout.fileno(): frames.OUT, self.process.stderr.fileno(): frames.ERR}
        for fd in self.pipes:
            os.set_blocking(fd, False)
        self.pidfd = os.pidfd_open(self.process.pid)

    def read(self, fd: int) -> bytes | None:
        """Bytes that are there; b"" at the end of file, None if there are none now."""
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:
            return None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> int:
        """The exit status, once it has ended."""
        code = self.process.wait()
        for output in self._outputs:
            output.close()
        os.close(self._input)
        os.close(self.pidfd)
        return code if code >= 0 else 128 - code


class Agent:
    """The port, and the command that runs."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader = frames.Reader()
        self._command: Command | None = None
        self._poll = select.poll()
        self._poll.register(port, select.POLLIN)

    def send(self, kind: bytes, content: bytes = b"{}") -> None:
        view = memoryview(frames.frame(kind, content))
        while view:
            view = view[os.write(self._port, view) :]

    def run(self) -> None:
        self.send(frames.READY)
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._port:
                    self._from_owner()
                elif (command := self._command) is None:
                    continue
                elif fd == command.pidfd:
                    self._ended(command)
                elif fd in command.pipes:
                    self._output(command, fd)

    def _from_owner(self) -> None:
        data = os.read(self._port, CHUNK)
        if not data:  # the owner's end is closed: QEMU is about to end
            time.sleep(0.1)
        for kind, content in self._reader.feed(data):
            if kind == frames.RUN and self._command is None:
                self._start(json.loads(content))
            elif kind == frames.KILL and self._command is not None:
                self._command.kill()

    def _start(self, request: dict[str, Any]) -> None:
        try:
            self._command = Command(request)
        except OSError as error:
            self.send(frames.ERR, f"can't run {request['argv'][0]}: {error.strerror}\n".encode())
            self.send(frames.EXIT, b'{"status": 127}')
            return
        for fd in (*self._command.pipes, self._command.pidfd):
            self._poll.register(fd, select.POLLIN)

    def _output(self, command: Command, fd: int) -> None:
        data = command.read(fd)
        if data:
            self.send(command.pipes[fd], data)
        elif data == b"":
            self._poll.unregister(fd)
            del command.pipes[fd]

    def _ended(self, command: Command) -> None:
        """What is still in the pipes goes first; a background child that keeps them open holds nobody up."""
        for fd, kind in command.pipes.items():
            while data := command.read(fd):
                self.send(kind, data)
            self._poll.unregister(fd)
        self._poll.unregister(command.pidfd)
        status = command.close()
        self._command = None
        self.send(frames.EXIT, json.dumps({"status": status}).encode())


def main() -> None:
    # The kernel lets nobody else open the port then.
    Agent(os.open(find_port(), os.O_RDWR | os.O_CLOEXEC)).run()


if __name__ == "__main__":
    main()
