"""The runtime under test, driven by its command line as engines do it: katapy, or runc to try the tests themselves.

Runs in pytest. Everything has a deadline, and `cleanup` leaves nothing of the runtime's root behind.
"""

import contextlib
import itertools
import json
import os
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from framework import processes
from framework.bundle import Bundle
from framework.wait import PATIENCE, wait_for

CALL_S = 90.0 * PATIENCE
BOOT_S = 150.0 * PATIENCE
"""A cold boot under emulation on a busy machine, and what comes after it."""

Arg = str | Path


@dataclass(frozen=True, slots=True)
class Result:
    """What a call left: exit status, stdout and stderr, and how long it took; `cpu_seconds`: of processor time."""

    args: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes
    seconds: float
    cpu_seconds: float = 0.0

    @property
    def out(self) -> str:
        return self.stdout.decode(errors="replace")

    @property
    def err(self) -> str:
        return self.stderr.decode(errors="replace")

    def ok(self) -> "Result":
        """Itself; AssertionError with all it said unless the status is 0."""
        assert self.status == 0, self
        return self

    def __str__(self) -> str:
        return f"{' '.join(self.args)[:400]} -> {self.status}\nstdout: {self.out[-2000:]}\nstderr: {self.err[-4000:]}"


class Runtime:
    """One state root of one runtime. `token` is part of every id it hands out."""

    def __init__(self, path: Path, root: Path, token: str, global_args: Sequence[str] = ()) -> None:
        self.path = path
        self.root = root
        self.token = token
        self.global_args = tuple(global_args)
        self._numbers = itertools.count()

    @property
    def name(self) -> str:
        return self.path.name

    def new_id(self, name: str = "c") -> str:
        return f"{self.token}-{self.root.name}-{name}{next(self._numbers)}"

    def argv(self, *args: Arg) -> list[str]:
        return [str(a) for a in (self.path, "--root", self.root, *self.global_args, *args)]

    def __call__(self, *args: Arg, input: bytes = b"", timeout: float = CALL_S, cwd: Path | None = None) -> Result:
        """Runs a verb to its end; stdin holds `input` and then ends."""
        argv = self.argv(*args)
        begun, busy = time.monotonic(), _cpu_of_children()
        done = subprocess.run(argv, input=input, capture_output=True, timeout=timeout, cwd=cwd, check=False)
        seconds, cpu_seconds = time.monotonic() - begun, _cpu_of_children() - busy
        return Result(tuple(argv), done.returncode, done.stdout, done.stderr, seconds, cpu_seconds)

    def popen(self, *args: Arg, **streams: Any) -> "subprocess.Popen[bytes]":
        """Starts a verb. The caller waits for it."""
        return subprocess.Popen(self.argv(*args), **{"stdin": subprocess.DEVNULL, **streams})

    def run(
        self, bundle: Bundle, *flags: Arg, input: bytes = b"", timeout: float = BOOT_S, id: str | None = None
    ) -> Result:
        """`run` in the foreground."""
        return self("run", "--bundle", bundle.path, *flags, id or self.new_id(), input=input, timeout=timeout)

    def create(self, bundle: Bundle, *flags: Arg, id: str | None = None, timeout: float = BOOT_S) -> "Container":
        """`create`; the container's output goes to files of the bundle. AssertionError if it fails."""
        container, result = self.try_create(bundle, *flags, id=id, timeout=timeout)
        result.ok()
        return container

    def try_create(
        self, bundle: Bundle, *flags: Arg, id: str | None = None, timeout: float = BOOT_S
    ) -> tuple["Container", Result]:
        """`create`, whatever comes of it."""
        container = Container(self, id or self.new_id(), bundle)
        argv = self.argv("create", "--bundle", bundle.path, "--pid-file", container.pid_file, *flags, container.id)
        begun = time.monotonic()
        with container.stdout.open("wb") as out, container.stderr.open("wb") as err:
            status = _wait(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err), timeout)
        seconds = time.monotonic() - begun
        return container, Result(
            tuple(argv), status, container.stdout.read_bytes(), container.stderr.read_bytes(), seconds
        )

    def start(self, bundle: Bundle, *flags: Arg, id: str | None = None) -> "Container":
        """`create` and `start`."""
        container = self.create(bundle, *flags, id=id)
        container.start()
        return container

    def ids(self) -> list[str]:
        """Of everything in the root, finished or not."""
        return sorted(p.name for p in self.root.iterdir() if p.is_dir()) if self.root.is_dir() else []

    def cleanup(self) -> None:
        """`delete --force` of every id. AssertionError names what would not go."""
        failed = [str(result) for id in self.ids() if (result := self("delete", "--force", id)).status]
        with contextlib.suppress(OSError):  # what is still in it is reported as a leak
            self.root.rmdir()
        assert not failed, "\n".join(failed)


class Container:
    """A container that was created, with its output in files beside the bundle's config.json."""

    def __init__(self, runtime: Runtime, id: str, bundle: Bundle) -> None:
        self.runtime = runtime
        self.id = id
        self.bundle = bundle
        self.pid_file = bundle.path / f"{id}.pid"
        self.stdout = bundle.path / f"{id}.out"
        self.stderr = bundle.path / f"{id}.err"

    def __call__(self, verb: str, *args: Arg, **options: Any) -> Result:
        """A verb without flags: its first operand is the id."""
        return self.runtime(verb, self.id, *args, **options)

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    @property
    def state_dir(self) -> Path:
        return self.runtime.root / self.id

    @property
    def log(self) -> str:
        """What its supervisor has written down."""
        return (self.state_dir / "supervisor.log").read_text()

    @property
    def warnings(self) -> list[str]:
        """The lines of `log` that warn, of anything but emulation."""
        return [line for line in self.log.splitlines() if "WARNING" in line and "guests are emulated" not in line]

    def start(self) -> None:
        self("start").ok()

    def state(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self("state").ok().out)
        return document

    @property
    def status(self) -> str:
        return str(self.state()["status"])

    def wait_status(self, status: str, deadline_s: float = 60.0) -> None:
        wait_for(f"{self.id} is {status}", lambda: self.status == status, deadline_s)

    def kill(self, signal: str | int = "KILL") -> None:
        self("kill", str(signal)).ok()

    def delete(self, *flags: str) -> None:
        self.runtime("delete", *flags, self.id).ok()

    def wait(self, deadline_s: float = 60.0) -> int:
        """The exit status of the process that stands for it; only the first call gets it."""
        return processes.exit_status(self.pid, deadline_s)

    def exec(self, *command: Arg, flags: Sequence[Arg] = (), input: bytes = b"", timeout: float = CALL_S) -> Result:
        """`exec` in the foreground."""
        return self.runtime("exec", *flags, self.id, *command, input=input, timeout=timeout)

    def sh(self, script: str, **options: Any) -> str:
        """Output of a shell script in the container, without the last newline. AssertionError unless it ends with 0."""
        return self.exec("sh", "-c", script, **options).ok().out.rstrip("\n")


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wait(process: "subprocess.Popen[bytes]", timeout: float) -> int:
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@contextlib.contextmanager
def closing_popen(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """Ends and reaps the process, whatever the test did to it."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            _close(stream)


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        with contextlib.suppress(BrokenPipeError):
            stream.close()


def owner_of(container: Container, name: str) -> int:
    """Pid of the process of that kind (qemu, virtiofsd, supervisor) which serves the container's sandbox."""
    found = [p.pid for p in processes.descendants(os.getpid()) if _is(p, name, container)]
    assert len(found) == 1, f"{len(found)} processes are {name} of {container.id}"
    return found[0]


def _is(process: processes.Process, name: str, container: Container) -> bool:
    if name == "supervisor":
        state = json.loads((container.state_dir / "state.json").read_text())
        return bool(process.pid == state["supervisor_pid"])
    program = os.path.basename(process.command.split(" ", 1)[0])
    return program.startswith(name) and container.id in process.command
