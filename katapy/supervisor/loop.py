"""The supervisor's event loop: control server, sandbox, lifeline. Imported while the guest boots."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from katapy import cgroups
from katapy.agent_client.relay import Relay, vsock_dial
from katapy.cgroups import shortage
from katapy.control.messages import Fields
from katapy.control.server import ControlServer, Descriptors, Operation
from katapy.errors import KatapyError, NotFound
from katapy.hypervisor.vm import Transport, Vm
from katapy.linux import code_pages
from katapy.protocol import names
from katapy.sandbox import plan_wire, store
from katapy.sandbox.container import Container
from katapy.sandbox.lifecycle import Status
from katapy.sandbox.machine import Machine, share_container, unshare_container
from katapy.sandbox.network import PodNetwork
from katapy.sandbox.plan import ContainerPlan
from katapy.sandbox.proc_view import ProcView
from katapy.sandbox.sandbox import Sandbox
from katapy.sandbox.timings import Timings
from katapy.storage.virtiofsd import VirtiofsdProcess
from katapy.supervisor.handlers import Handlers
from katapy.supervisor.launch import Task

if TYPE_CHECKING:
    import grpc.aio  # which katapy.agent_client imports first, and knows how

log = logging.getLogger(__name__)

_OOM_FILE = "oom"
"""In the bundle."""
_ANSWERS_S = 2.0
"""How long requests that wait for the end (delete, kill) may take to be answered after it."""

_MUCH_CODE = 1024 * 1024
"""Bytes of a library's code from which it is worth while: grpc's, Python's, C++'s. 3 of 37 MB (RSS) don't come back."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The way to the agent of a machine that has answered before its pod came. `relay`: over vsock."""

    channel: "grpc.aio.Channel"
    relay: Relay | None


def open_relay(machine: Machine, limit_s: float) -> Relay | None:
    """Over vsock, the way to the agent is ours to make; over serial it is QEMU's own socket."""
    if machine.spec.transport is not Transport.VSOCK:
        return None
    return Relay(machine.vm.agent_socket, vsock_dial(machine.vm.cid, names.AGENT_VSOCK_PORT, limit_s))


class Loop:
    """One run of the loop. `stack` holds what was started; `failure` is why there is no machine."""

    def __init__(
        self,
        task: Task,
        machine: Machine | None,
        failure: KatapyError | None,
        stack: contextlib.ExitStack,
        lifeline: int,
        opened: Opened | None = None,
    ) -> None:
        self._task = task
        self._opened = opened
        self._machine = machine
        self._failure = failure
        self._stack = stack
        self._lifeline = lifeline
        self._created = False
        self._tried = asyncio.Event()
        self._done = asyncio.Event()
        self._sandbox: Sandbox | None = None
        self._ending: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._views: dict[str, ProcView] = {}

    async def run(self, listener: int) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
        asyncio.get_running_loop().add_reader(self._lifeline, self._lifeline_ended)
        task = self._task
        for warning in (task.plan.facts.warning, task.template.warning, self._machine_warning(), task.warning):
            if warning:
                log.warning("%s", warning)
        relay = self._relay()
        server = ControlServer(listener, self._operations())
        server.start()
        await self._done.wait()
        if self._sandbox is not None and not self._sandbox.ended.is_set():
            await self._sandbox.stop_machine()
        await server.close(_ANSWERS_S)
        if relay is not None:
            await relay.close()
        self.release()

    def _machine_warning(self) -> str:
        return self._machine.warning if self._machine is not None else ""

    def _relay(self) -> Relay | None:
        if self._opened is not None:
            return self._opened.relay
        return open_relay(self._machine, self._task.config.timeouts.boot_s) if self._machine is not None else None

    def _operations(self) -> dict[str, Operation]:
        if self._machine is None:
            return {"create": Operation(self._refuse)}
        self._sandbox = Sandbox(
            self._task.plan,
            self._task.config,
            self._machine.vm,
            self._machine.secret,
            Timings(self._task.origin),
            PodNetwork(
                self._machine.vm,
                dict(self._task.plan.container.namespaces).get("network"),
                f"{self._task.directory}/{store.NETWORK}",
                self._task.config.timeouts.boot_s,
            ),
            self,
            self._opened.channel if self._opened is not None else None,
        )
        if self._machine.virtiofsd is not None:
            self._watching = asyncio.create_task(self._watch_share(self._machine.virtiofsd, self._machine.vm))
        handlers = Handlers(self._sandbox)
        self._handlers = handlers
        started = Operation(self._start_created)
        return {**handlers.operations(), "create": Operation(self._create, cancel_on_disconnect=True), "start": started}

    async def _watch_share(self, daemon: VirtiofsdProcess, vm: Vm) -> None:
        """Without its daemon the guest would hang on its root file system for ever."""
        words = await daemon.wait()
        log.error("virtiofsd has ended, so the machine is killed: %s", words)
        vm.kill()

    def _show_processes(self, container: Container) -> None:
        try:
            view = ProcView(f"{store.directory(self._task.root, container.id)}/{store.PROC_VIEW}", container.processes)
        except OSError as e:
            log.warning("tools that read /proc of the stand-in will see no processes: %s", e)
        else:
            self._views[container.id] = view

    async def _refuse(self, _: Fields, __: Descriptors) -> Fields:
        self._done.set()
        raise self._failure or NotFound("no machine")

    async def _create(self, fields: Fields, descriptors: Descriptors) -> Fields:
        """The first container, or one that joins. If the first fails there is no sandbox."""
        assert self._sandbox is not None
        plan = fields.get("plan")
        if isinstance(plan, str):
            return await self._join(plan_wire.decode(plan), fields, descriptors)
        try:
            answer = await self._handlers.create(self._task.plan.container, fields, descriptors)
        except BaseException:
            self._done.set()
            raise
        finally:
            self._tried.set()
        self._created = True
        code_pages.forget(_MUCH_CODE)
        self._show_processes(self._sandbox.container(self._task.plan.container.id))
        self._ending = asyncio.create_task(self._until_ended(self._sandbox))
        return answer

    async def _join(self, plan: ContainerPlan, fields: Fields, descriptors: Descriptors) -> Fields:
        assert self._sandbox is not None
        answer = await self._handlers.create(plan, fields, descriptors)
        self._show_processes(self._sandbox.container(plan.id))
        return answer

    async def _start_created(self, fields: Fields, descriptors: Descriptors) -> Fields:
        """Whoever asks for `start` while `create` is on its way waits for it."""
        await self._tried.wait()
        return await self._handlers.start(fields, descriptors)

    async def _until_ended(self, sandbox: Sandbox) -> None:
        await sandbox.ended.wait()
        self._done.set()

    def _lifeline_ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._lifeline)
        os.close(self._lifeline)
        if not self._created:
            self._done.set()

    # -- what the sandbox needs done (sandbox.Host) ------------------------------------------------------

    def save(self, container: Container) -> None:
        """state.json says what is; a container that is gone from the disk (deleted by force) stays gone."""
        try:
            state = store.load(self._task.root, container.id)
        except NotFound:
            return
        pid = 0 if container.status is Status.STOPPED else container.pid
        changed = state._replace(status=container.status.value, pid=pid, exit_status=container.exit_status)
        store.save(self._task.root, changed)

    def share(self, plan: ContainerPlan, trees: Sequence[int]) -> dict[int, str]:
        assert self._machine is not None
        return share_container(self._machine, plan, trees)

    def unshare(self, container_id: str) -> None:
        assert self._machine is not None
        if (view := self._views.pop(container_id, None)) is not None:
            view.close()
        unshare_container(self._machine, container_id)

    def short_of_memory(self, plan: ContainerPlan) -> None:
        """The file by which conmon tells it to engines: it watches the host's cgroup itself, where nothing happens."""
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            os.close(os.open(f"{plan.bundle}/{_OOM_FILE}", flags, 0o600))
        except OSError as e:
            log.warning("tell that container %s was short of memory: %s", plan.id, e)

    def note_kill(self, container_id: str) -> None:
        state = store.load(self._task.root, container_id)
        shortage.note_kill(cgroups.reopen(state.cgroup, store.directory(self._task.root, container_id)))

    def release(self) -> None:
        for view in self._views.values():
            view.close()
        if self._watching is not None:
            self._watching.cancel()
        self._stack.close()
