"""One test host that answers: commands in it, and its end. Runs in its owner (host.py)."""

import base64
import json
import os
import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from testhost.frames import ERR, EXIT, KILL, OUT, RUN, Reader, frame
from testhost.image import PLACE
from testhost.machine import Process

BOOT_S = 1200.0
"""A quiet machine takes 15 seconds, one with a load of ten on two cores takes minutes."""
COMMAND_S = 600.0
_AFTER_KILL_S = 120.0
_ENVIRONMENT = {
    "PATH": f"/{PLACE}/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
    "HOME": "/root",
    "KATAPY_TESTS_PATIENCE": "10",
}
"""Of every command. The last is for tests and the bench (framework/wait.py): deadlines are that much longer."""
_READ = 256 * 1024

Listener = Callable[[bytes], None]


class TestHostError(Exception):
    """The test host could not be started, or has died. One line, and what it said last."""

    __test__ = False


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left."""

    status: int
    stdout: bytes
    stderr: bytes

    def ok(self) -> "Done":
        """Itself; AssertionError with what it said unless the status is 0."""
        assert self.status == 0, f"{self.status}\n{self.stdout.decode()[-4000:]}\n{self.stderr.decode()[-4000:]}"
        return self


class Session:
    """The owner's side of a machine. A context manager that ends it. One command at a time."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._reader = Reader()
        self._pending: list[tuple[bytes, bytes]] = []

    def wait_ready(self) -> None:
        """After a boot: until it takes commands. Raises TestHostError."""
        try:
            self._next(time.monotonic() + BOOT_S)
        except TimeoutError as e:
            raise TestHostError(f"the test host did not come up in {BOOT_S:g} s: {e}") from None

    def demand(self, argv: Sequence[str], input: bytes = b"", deadline_s: float = COMMAND_S) -> None:
        """A command that must succeed, else TestHostError."""
        done = self.run(argv, cwd="/", input=input, deadline_s=deadline_s)
        if done.status:
            raise TestHostError(f"{' '.join(argv)}: status {done.status}: {done.stderr.decode(errors='replace')}")

    @property
    def pid(self) -> int:
        """Of its QEMU."""
        return self.process.pid

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: str = f"/{PLACE}",
        env: Mapping[str, str] | None = None,
        input: bytes = b"",
        deadline_s: float = COMMAND_S,
        out: Listener | None = None,
        err: Listener | None = None,
    ) -> Done:
        """Runs a command as root to its end. `out`, `err`: get its output as it comes, instead of the result.

        Raises TestHostError if the machine ends, TimeoutError (the command was killed) after `deadline_s`.
        """
        stdout, stderr = bytearray(), bytearray()
        listeners = {OUT: out or stdout.extend, ERR: err or stderr.extend}
        status = 0
        for kind, content in self.stream(argv, cwd=cwd, env=env, input=input, deadline_s=deadline_s):
            if kind == EXIT:
                status = int(json.loads(content)["status"])
            else:
                listeners[kind](content)
        return Done(status, bytes(stdout), bytes(stderr))

    def stream(
        self,
        argv: Sequence[str],
        *,
        cwd: str = f"/{PLACE}",
        env: Mapping[str, str] | None = None,
        input: bytes = b"",
        deadline_s: float = COMMAND_S,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Like `run`: (OUT or ERR, bytes) as they come, and last (EXIT, the frame's content)."""
        environment = {**_ENVIRONMENT, **(env or {})}
        encoded = base64.b64encode(input).decode()
        request = {"argv": list(argv), "cwd": cwd, "env": environment, "input": encoded}
        self._send(RUN, json.dumps(request).encode())
        end = time.monotonic() + deadline_s
        late = False
        while True:
            try:
                kind, content = self._next(end)
            except TimeoutError:
                if late:
                    raise TestHostError(f"the test host is stuck: {self.process.tail()}") from None
                late, end = True, time.monotonic() + _AFTER_KILL_S
                self._send(KILL, b"{}")
                continue
            if kind == EXIT and late:
                raise TimeoutError(f"{' '.join(argv)[:200]} was killed after {deadline_s:g} s")
            if kind in (OUT, ERR, EXIT):
                yield kind, content
            if kind == EXIT:
                return

    def close(self) -> None:
        """Ends the machine, as if its power were cut. Idempotent."""
        self.process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _send(self, kind: bytes, content: bytes) -> None:
        try:
            self.process.port.sendall(frame(kind, content))
        except OSError as e:
            raise self._died() from e

    def _next(self, end: float) -> tuple[bytes, bytes]:
        """The next frame. Raises TestHostError, TimeoutError."""
        while not self._pending:
            self._pending = self._reader.feed(self._read(end))
        return self._pending.pop(0)

    def _read(self, end: float) -> bytes:
        port = self.process.port.fileno()
        poll = select.poll()
        for fd in (port, *self.process.words()):
            poll.register(fd, select.POLLIN)
        while (left := end - time.monotonic()) > 0:
            ready = [fd for fd, _ in poll.poll(left * 1000)]
            if port in ready:
                data = self._read_port()
                if not data:
                    raise self._died()
                return data
            self.process.listen()
        raise TimeoutError(f"the test host says nothing: {self.process.tail()}")

    def _read_port(self) -> bytes:
        try:
            return os.read(self.process.port.fileno(), _READ)
        except ConnectionError:
            return b""

    def _died(self) -> TestHostError:
        tail = self.process.tail()
        return TestHostError(f"the test host's machine has ended{': ' + tail if tail else ' without a word'}")
