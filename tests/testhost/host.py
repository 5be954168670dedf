"""A test host that runs: started, commands in it, taken down. Runs in its owner: a pytest fixture, `make testhost`."""

import base64
import json
import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from katapy.errors import HostError
from testhost import description, image, source
from testhost.frames import ERR, EXIT, KILL, OUT, READY, RUN, Reader, frame
from testhost.machine import Process

GUEST_IMAGES = "/var/lib/katapy/images"
BOOT_S = 300.0
COMMAND_S = 600.0
_AFTER_KILL_S = 30.0
_PATH = f"/{image.PLACE}/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
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


class TestHost:
    """A context manager. One command at a time."""

    __test__ = False

    def __init__(self, suite: str = "", output: Path = image.OUTPUT, guest: Path = Path(GUEST_IMAGES) / "current"):
        """Boots it, with the guest image and the checkout in it. Raises TestHostError, BuildError."""
        if not (guest / "image.json").exists():
            raise TestHostError(f"no guest image in {guest}: make image")
        what = description.load()
        folder = image.image(output, suite)
        disk = image.guest_disk(output, guest)
        try:
            self._process = Process(what, folder, disk)
        except HostError as e:
            raise TestHostError(str(e)) from e
        self._reader = Reader()
        self._pending: list[tuple[bytes, bytes]] = []
        try:
            if self._next(time.monotonic() + BOOT_S)[0] != READY:
                raise TestHostError("the test host's agent does not say that it is ready")
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        mount = f"mkdir -p {GUEST_IMAGES} && mount -o ro,noload /dev/disk/by-id/virtio-guest {GUEST_IMAGES}"
        place = f"mkdir -p /{image.PLACE} && tar -x -C /{image.PLACE}"
        self._demand(["sh", "-c", f"date -s @{time.time():.3f} && {mount} && {place}"], source.archive())

    def _demand(self, argv: Sequence[str], input: bytes = b"") -> None:
        done = self.run(argv, input=input)
        if done.status:
            raise TestHostError(f"{' '.join(argv)}: status {done.status}: {done.stderr.decode(errors='replace')}")

    @property
    def pid(self) -> int:
        """Of its QEMU."""
        return self._process.pid

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: str = f"/{image.PLACE}",
        env: Mapping[str, str] | None = None,
        input: bytes = b"",
        deadline_s: float = COMMAND_S,
        out: Listener | None = None,
        err: Listener | None = None,
    ) -> Done:
        """Runs a command as root to its end. `out`, `err`: get its output as it comes, instead of the result.

        Raises TestHostError if the machine ends, TimeoutError (the command was killed) after `deadline_s`.
        """
        end = time.monotonic() + deadline_s
        environment = {"PATH": _PATH, "HOME": "/root", **(env or {})}
        request = {"argv": list(argv), "cwd": cwd, "env": environment, "input": base64.b64encode(input).decode()}
        self._send(RUN, json.dumps(request).encode())
        stdout, stderr = bytearray(), bytearray()
        listeners = {OUT: out or stdout.extend, ERR: err or stderr.extend}
        late = False
        while True:
            try:
                kind, content = self._next(end)
            except TimeoutError:
                if late:
                    raise TestHostError(f"the test host is stuck: {self._process.tail()}") from None
                late, end = True, time.monotonic() + _AFTER_KILL_S
                self._send(KILL, b"{}")
                continue
            if kind == EXIT and late:
                raise TimeoutError(f"{' '.join(argv)} was killed after {deadline_s:g} s: {stderr.decode()[-2000:]}")
            if kind == EXIT:
                return Done(int(json.loads(content)["status"]), bytes(stdout), bytes(stderr))
            if kind in listeners:
                listeners[kind](content)

    def close(self) -> None:
        """Ends the machine, as if its power were cut. Idempotent."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _send(self, kind: bytes, content: bytes) -> None:
        try:
            self._process.port.sendall(frame(kind, content))
        except OSError as e:
            raise self._died() from e

    def _next(self, end: float) -> tuple[bytes, bytes]:
        """The next frame. Raises TestHostError, TimeoutError."""
        while not self._pending:
            self._pending = self._reader.feed(self._read(end))
        return self._pending.pop(0)

    def _read(self, end: float) -> bytes:
        port = self._process.port.fileno()
        poll = select.poll()
        for fd in (port, *self._process.words()):
            poll.register(fd, select.POLLIN)
        while (left := end - time.monotonic()) > 0:
            ready = [fd for fd, _ in poll.poll(left * 1000)]
            if port in ready:
                data = self._read_port()
                if not data:
                    raise self._died()
                return data
            self._process.listen()
        raise TimeoutError(f"the test host says nothing: {self._process.tail()}")

    def _read_port(self) -> bytes:
        try:
            return os.read(self._process.port.fileno(), _READ)
        except ConnectionError:
            return b""

    def _died(self) -> TestHostError:
        tail = self._process.tail()
        return TestHostError(f"the test host's machine has ended{': ' + tail if tail else ' without a word'}")
