"""The real host side (Sandbox, Container, StdioPump, AgentClient, handlers) against an evil agent. Runs in pytest.

The machine is played by the agent's process: its end is the machine's end, and killing the machine kills it.
"""

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from framework import evil_agent
from katapy.agent_client.stdio import Descriptors as Stdio
from katapy.config import Config, Hypervisor, Timeouts
from katapy.control import messages
from katapy.control.server import Descriptors
from katapy.errors import HostError, KatapyError
from katapy.hypervisor.vm import Accelerator, ShareType, Size, Transport, VmExit
from katapy.linux.rtnetlink import COUNTERS, Link
from katapy.network.loopback import Loopback
from katapy.network.pod import PodNamespace
from katapy.network.scan import Found, Interface
from katapy.sandbox import disks
from katapy.sandbox.blocks import BlockPlan
from katapy.sandbox.container import Attachment, Container
from katapy.sandbox.network import PodNetwork
from katapy.sandbox.plan import ContainerPlan, HostFacts, SandboxPlan, plan_container, plan_sandbox
from katapy.sandbox.sandbox import Sandbox
from katapy.sandbox.timings import Timings
from katapy.supervisor.handlers import Handlers

ID = "c1"
CONFIG = Config(timeouts=Timeouts(boot_s=20.0, request_s=10.0, kill_s=2.0, heartbeat_s=10.0))
"""For attacks that the host is to live through."""
IMPATIENT = Config(timeouts=Timeouts(boot_s=2.0, request_s=0.5, kill_s=0.5, heartbeat_s=0.3))
"""For attacks that end in a deadline."""
STEP_S = 30.0
"""Longer than any deadline of these configurations: whoever needs more has none."""

_FACTS = HostFacts(
    cpus=1,
    arch="x86_64",
    qemu="/nowhere/qemu",
    accelerator=Accelerator.TCG,
    cpu_model="max",
    transport=Transport.SERIAL,
    share=ShareType.VIRTIOFS,
    virtiofsd=None,
    groups=(),
    generation_id=True,
)
_SPEC: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs"},
    "process": {"args": ["sleep"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
    "linux": {"namespaces": [{"type": "network"}, {"type": "pid"}]},
}
_DISK = BlockPlan("/dev/loop0", 7, 0, False, "rw")
_MORE = {"memory": {"limit": 1 << 30}}
"""An update for which the machine grows."""


def make_plan(spec: dict[str, Any] | None = None) -> SandboxPlan:
    document = spec or _SPEC
    return plan_sandbox(plan_container(ID, "/nowhere", document, {}), Size(1, 512), _FACTS, Hypervisor())


class AgentVm:
    """Protocol Vm, with the agent's process for a machine."""

    def __init__(self, attack: str, method: str) -> None:
        self._folder = tempfile.mkdtemp(prefix="kt")
        self.agent_socket = f"{self._folder}/agent.sock"
        self.cid = 0
        self.phases: list[tuple[str, float]] = []
        argv = [sys.executable, evil_agent.__file__, self.agent_socket, attack, *([method] if method else [])]
        paths = os.pathsep.join(p for p in sys.path if p)
        self._process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"PYTHONPATH": paths, "PATH": os.defpath}
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    async def connect(self, deadline_s: float) -> None: ...

    def wait_phase(self, name: str, deadline_s: float) -> None:
        pass

    async def agent_ready(self, deadline_s: float) -> None: ...

    def send_boot_message(self, line: bytes) -> None: ...

    async def plug_nic(self, tap: int, mac: str) -> str:
        return "nic-1"

    async def unplug_nic(self, card: str) -> None: ...

    async def plug_disk(self, fd: int, readonly: bool) -> str:
        return "disk-1"

    async def unplug_disk(self, disk: str) -> None: ...

    async def resize(self, size: Size) -> None: ...

    async def ask_again(self) -> None: ...

    async def size(self) -> Size:
        return Size(1, 512)

    def keep_console(self, path: str) -> None: ...

    def kill(self) -> None:
        self._process.kill()

    async def wait(self) -> VmExit:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        pidfd = os.pidfd_open(self.pid) if self._process.returncode is None else -1
        if pidfd >= 0:
            loop.add_reader(pidfd, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(pidfd)
                os.close(pidfd)
        return VmExit(-9, "the machine was killed", "line one\nline two")

    def tail(self, lines: int = 20) -> str:
        return "line one\nline two"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        shutil.rmtree(self._folder)


class StillNamespace(PodNamespace):
    """A namespace with one interface in which nothing changes: a real one takes root."""

    def __init__(self) -> None:
        self._fd, self._writer = os.pipe()

    def scan(self) -> Found:
        link = Link(2, "eth0", 1, 1, b"\2\0\0\0\0\1", 1500, "veth", 0, 0, (0,) * len(COUNTERS))
        return Found((Interface(link, ()),), (), (), ())

    def open_loopback(self) -> Loopback:
        raise HostError("not here")

    def raise_loopback(self) -> None: ...

    def changes_fd(self) -> int:
        return self._fd

    def join(self, link: Link) -> int:
        return os.open("/dev/null", os.O_RDWR)

    def part(self, index: int, warn: Callable[[str], None]) -> None: ...

    def close(self, warn: Callable[[str], None]) -> None:
        for fd in {self._fd, self._writer} - {-1}:
            os.close(fd)
        self._fd = self._writer = -1


class OneInterface(PodNetwork):
    def __init__(self, vm: "AgentVm", limit_s: float) -> None:
        super().__init__(vm, "/nowhere", "/nowhere", limit_s)

    def _open(self, path: str) -> PodNamespace:
        return StillNamespace()


@dataclass
class Process:
    """The caller's ends of a process's stdio and of its stand-in."""

    stdin: int
    stdout: int
    stderr: int
    standin: socket.socket

    def output(self, size: int = 1 << 20) -> bytes:
        """What is there now."""
        os.set_blocking(self.stdout, False)
        try:
            return os.read(self.stdout, size)
        except BlockingIOError:
            return b""

    async def status(self, seconds: float = STEP_S) -> int:
        """What the stand-in would exit with."""
        self.standin.setblocking(False)
        async with asyncio.timeout(seconds):
            line = await asyncio.get_running_loop().sock_recv(self.standin, 64)
        return int(line)

    def close(self) -> None:
        for fd in {self.stdin, self.stdout, self.stderr}:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.standin.close()


@dataclass(frozen=True, slots=True)
class Step:
    """A request, its answer or error, and how long it took."""

    name: str
    outcome: object
    seconds: float


@dataclass
class _HostSide:
    """Notes what the sandbox asks for (sandbox.Host)."""

    saved: list[tuple[str, int | None]] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    released: int = 0

    def save(self, container: Container) -> None:
        self.saved.append((container.status.value, container.exit_status))

    def share(self, plan: ContainerPlan, trees: Sequence[int]) -> dict[int, str]:
        self.shared.append(plan.id)
        return {}

    def unshare(self, container_id: str) -> None:
        if container_id in self.shared:
            self.shared.remove(container_id)

    def short_of_memory(self, plan: ContainerPlan) -> None: ...

    def note_kill(self, container_id: str) -> None: ...

    def release(self) -> None:
        self.released += 1


@dataclass
class Host:
    """One sandbox under attack. `accidents`: what reached the loop's exception handler, or was logged as an error."""

    sandbox: Sandbox
    vm: AgentVm
    plan: SandboxPlan
    side: _HostSide
    accidents: list[str] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    steps: list["Step"] = field(default_factory=list)

    @property
    def saved(self) -> list[tuple[str, int | None]]:
        return self.side.saved

    @property
    def released(self) -> int:
        return self.side.released

    @property
    def handlers(self) -> Handlers:
        return Handlers(self.sandbox)

    async def create(self) -> Process:
        process, fds, standin = self._stdio()
        await self.sandbox.create(self.plan.container, Attachment(fds, standin, 4711))
        return process

    async def exec(self) -> Process:
        process, fds, standin = self._stdio()
        await self.sandbox.exec(ID, {"flags": {"args": ["true"]}}, Attachment(fds, standin, 4712))
        return process

    async def ask(self, op: str, **fields: object) -> dict[str, object]:
        """A control request, and its answer as the command line gets it: through the control protocol's own codec."""
        handler: Any = getattr(self.handlers, op)
        answer = await handler({"id": ID, **fields}, Descriptors())
        decoded = messages.decode_answer(messages.encode({"ok": answer}))
        assert decoded is not None
        return decoded

    async def step(self, name: str, work: Coroutine[Any, Any, object]) -> "Step":
        """Notes what came of `work`. Anything but an answer or a KatapyError in time is the test's failure."""
        begun = time.monotonic()
        outcome: object = None
        try:
            outcome = await asyncio.wait_for(work, STEP_S)
        except KatapyError as e:
            outcome = e
        self.steps.append(Step(name, outcome, time.monotonic() - begun))
        return self.steps[-1]

    async def live(self) -> None:
        """Every request there is, from create to delete, whatever comes of them."""
        created = await self.step("create", self.create())
        if isinstance(created.outcome, KatapyError):
            return
        for op in ("start", "stats", "ps"):
            await self.step(op, self.ask(op))
        await self.step("exec", self.exec())
        for op in ("pause", "resume"):
            await self.step(op, self.ask(op))
        await self.step("update", self.ask("update", resources=_MORE))
        await self.step("kill", self.ask("kill", signal=15))
        await self.step("delete", self.ask("delete", force=True))

    def _stdio(self) -> tuple[Process, Stdio, int]:
        stdin, our_stdin = os.pipe()
        our_stdout, stdout = os.pipe()
        our_stderr, stderr = os.pipe()
        ours, theirs = socket.socketpair()
        process = Process(our_stdin, our_stdout, our_stderr, ours)
        self.processes.append(process)
        return process, Stdio(stdin, stdout, stderr), theirs.detach()


class _Accidents(logging.Handler):
    """Errors that nobody meant to log. What grpc or asyncio log as an error is one, too."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append(record.getMessage()[:500])


def _open_null(path: str, major: int, minor: int, readonly: bool) -> tuple[int, bool]:
    """In place of a device of the host, which takes root."""
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), readonly


def _with_disk(plan: SandboxPlan) -> SandboxPlan:
    return dataclasses.replace(plan, container=dataclasses.replace(plan.container, blocks=(_DISK,)))


@contextlib.asynccontextmanager
async def besieged(attack: str, method: str = "", config: Config = CONFIG) -> AsyncIterator[Host]:
    """A sandbox whose agent does `attack`, for a container with a disk. Whatever came of it, it ends here, and has
    released the host once."""
    vm = AgentVm(attack, method)
    plan = _with_disk(make_plan())
    accidents: list[str] = []
    watcher = _Accidents(accidents)
    logging.getLogger().addHandler(watcher)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: _note(accidents, context))

    side = _HostSide()
    sandbox = Sandbox(plan, config, vm, "secret" * 8, Timings(0.0), OneInterface(vm, config.timeouts.boot_s), side)
    host = Host(sandbox, vm, plan, side, accidents)
    try:
        with mock.patch.object(disks, "open_block", _open_null):
            yield host
    finally:
        if not sandbox.ended.is_set():
            await asyncio.wait_for(sandbox.stop_machine(), STEP_S)
        for process in host.processes:
            process.close()
        await _settle()
        vm.close()
        logging.getLogger().removeHandler(watcher)


async def _settle() -> None:
    """Lets tasks that were cancelled come to their end, and forgotten ones report what they died of."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=1.5)
    gc.collect()


def _note(accidents: list[str], context: dict[str, Any]) -> None:
    """Not of grpc's poller: it is one for all loops, and complains to the next of the one that has ended."""
    text = str(context)
    if "PollerCompletionQueue" not in text:
        accidents.append(text[:500])
