"""One container inside a sandbox: its status, its init process, its execs. Supervisor only."""

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from katapy.agent_client.client import AgentClient
from katapy.agent_client.stdio import Descriptors, StdioPump
from katapy.errors import KatapyError, SpecError, WrongStatus
from katapy.protocol import agent_pb2 as pb
from katapy.protocol import names
from katapy.sandbox.disk_numbers import Numbers, renumber
from katapy.sandbox.exec_process import exec_process, sub_cgroup
from katapy.sandbox.lifecycle import Action, Status, advance
from katapy.sandbox.plan import ContainerPlan
from katapy.sandbox.sources import Memory
from katapy.sandbox.standin_channel import StandinChannel

KILLED = 137
"""128 + SIGKILL: what a process's status is when nobody is left to say another."""
SIGWINCH = 28
SIGKILL = 9
_LAST_OUTPUT_S = 5.0
"""For what killed execs have said last, and that somebody still has to read."""
_LAST_WORDS = 16 * 1024 * 1024
"""Bytes of output: above what pipes, messages and windows hold between a process and us."""
_MAX_SECONDS = 1e6


class Started(NamedTuple):
    """An exec. `crun_seconds`: what its start took in the guest, which says so itself."""

    exec_id: str
    crun_seconds: float


class Attachment:
    """What a process in the guest is attached to on the host: its stdio, and the channel to its stand-in (`pid`).

    A context manager: closes both at the end of the block, unless a GuestProcess has taken them over.
    """

    def __init__(self, stdio: Descriptors, standin_fd: int, pid: int) -> None:
        self.pid = pid
        self._stdio: Descriptors | None = stdio
        self._standin_fd = standin_fd

    def take_stdio(self) -> Descriptors:
        """Once; the caller closes them."""
        assert self._stdio is not None
        stdio, self._stdio = self._stdio, None
        return stdio

    def take_standin(self) -> int:
        """Once; the caller closes it."""
        fd, self._standin_fd = self._standin_fd, -1
        return fd

    def __enter__(self) -> "Attachment":
        return self

    def __exit__(self, *_: object) -> None:
        if self._stdio is not None:
            self._stdio.close()
        if self._standin_fd >= 0:
            os.close(self._standin_fd)


class GuestProcess:
    """A process in the guest with its stand-in on the host: the container's init, or an exec.

    `ids`: the container's, the exec's. `pump` has its stdio already; the stand-in's channel is taken over. `on_death`
    is called when the stand-in was killed.
    """

    def __init__(
        self,
        agent: AgentClient,
        ids: tuple[str, str],
        pump: StdioPump,
        attachment: Attachment,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        self._agent = agent
        self.pid = attachment.pid
        self._ids = ids
        self._tasks: set[asyncio.Task[None]] = set()
        self.status: int | None = None
        self.pump = pump
        self._on_end = on_death
        self.standin = StandinChannel(attachment.take_standin(), self._on_signal, self._on_death)

    async def wait(self) -> int:
        """The exit status, once all that the process wrote has been handed on. A guest that vanished: 137."""
        try:
            self.status = await asyncio.shield(self.pump.exited)
        except KatapyError:
            self.status = KILLED
        return self.status

    def _on_signal(self, signum: int) -> None:
        if signum == SIGWINCH and self.pump.terminal:
            self._spawn(self.pump.resize_to_terminal())
        else:
            self._spawn(self._agent.signal(*self._ids, signum))

    def _on_death(self) -> None:
        self._on_end()
        self._spawn(self._agent.signal(*self._ids, SIGKILL))

    def _spawn(self, action: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._attempt(action))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attempt(self, action: Any) -> None:
        """A signal that comes too late, or a machine that is gone: there is nobody to tell."""
        try:
            await action
        except KatapyError:
            return


async def _begun(pump: StdioPump, sized: bool) -> pb.ExecReply:
    """An exec has started, and has the size of the host's terminal unless it was told one: a guest can hold up both."""
    reply = await pump.started
    if not sized:
        await pump.resize_to_terminal()
    return reply


def _tmpfs(memory: Memory) -> pb.GuestTmpfs:
    return pb.GuestTmpfs(
        name=memory.name,
        size_bytes=memory.size,
        mode=memory.mode,
        uid=memory.uid,
        gid=memory.gid,
        kept=memory.kept,
    )


class Container:
    """`on_change(container)` is called after every change of status: the store is written by it."""

    def __init__(self, plan: ContainerPlan, agent: AgentClient, on_change: Callable[["Container"], None]) -> None:
        self.plan = plan
        self.status = Status.CREATING
        self.pid = 0
        self.exit_status: int | None = None
        self.execs: dict[str, GuestProcess] = {}
        self._agent = agent
        self._on_change = on_change
        self._started = False
        self._not_paused = asyncio.Event()
        self._not_paused.set()
        self.disks: Numbers = {}
        self.demand = plan.demand
        self.short_of_memory = False
        self._exec_numbers = itertools.count(1)
        self.init: GuestProcess | None = None
        self.condemned = asyncio.Event()
        """Set when its init process is to be killed."""
        self.over = asyncio.Event()
        """Set when the container has ended and everybody has been told."""

    @property
    def id(self) -> str:
        return self.plan.id

    def _advance(self, action: Action) -> None:
        self.status = advance(self.id, self.status, action)
        self._on_change(self)

    async def create(self, attachment: Attachment, spec_json: bytes) -> None:
        """Takes the attachment over once the container exists. Raises what the agent raises."""
        tmpfs = [_tmpfs(memory) for memory in self.plan.memory]
        await self._agent.create_container(self.id, spec_json, tmpfs, self.plan.guest_writes)
        self.pid = attachment.pid
        ids = (self.id, names.INIT_EXEC_ID)
        process = pb.ProcessRequest(container_id=self.id, exec_id=names.INIT_EXEC_ID)
        pump = StdioPump(self._agent, process, attachment.take_stdio())
        self.init = GuestProcess(self._agent, ids, pump, attachment, self.condemned.set)
        if self.plan.console_size is None:
            await self.init.pump.resize_to_terminal()
        self._advance(Action.CREATED)

    async def start(self) -> None:
        advance(self.id, self.status, Action.START)
        if not self.plan.process:  # runtime-spec: it may be missing at create, not at start
            raise SpecError("process property must not be empty: there is nothing to start")
        await self._agent.start(self.id)
        self._started = True
        if self.status is Status.CREATED:  # it may have run and ended while the answer was on its way
            self._advance(Action.START)

    async def pause(self) -> None:
        advance(self.id, self.status, Action.PAUSE)
        await self._agent.pause(self.id)
        self._not_paused.clear()
        self._advance(Action.PAUSE)

    async def resume(self) -> None:
        advance(self.id, self.status, Action.RESUME)
        await self._agent.resume(self.id)
        self._advance(Action.RESUME)
        if not self._started:
            self.status = Status.CREATED
            self._on_change(self)
        self._not_paused.set()

    async def resumed(self) -> None:
        """Waits until it is not paused: it may have ended."""
        await self._not_paused.wait()

    async def kill(self, signum: int, everyone: bool) -> None:
        """A paused container is killed as runc does it: the signal waits, SIGKILL does not."""
        advance(self.id, self.status, Action.KILL)
        if signum == SIGKILL:
            self.condemned.set()
        await self._agent.signal(self.id, names.INIT_EXEC_ID, signum, everyone)

    async def check_alive(self) -> None:
        """Raises WrongStatus if it has ended, once everybody has been told: engines that hear it look at the status."""
        if self.status is Status.STOPPED:
            await self.over.wait()
            advance(self.id, self.status, Action.KILL)

    async def dies(self, limit_s: float) -> bool:
        """Whether the init process ends, as it should at once. Output that nobody reads is in its end's way: then the
        guest is not to blame, unless more of it comes than a dead process can have left."""
        assert self.init is not None
        pump, before = self.init.pump, self.init.pump.received
        while True:
            ended, _ = await asyncio.wait([pump.exited], timeout=limit_s)
            if ended or pump.received - before > _LAST_WORDS or not pump.held_up:
                return bool(ended)

    async def update(self, resources: Mapping[str, Any]) -> None:
        advance(self.id, self.status, Action.UPDATE)
        await self._agent.update(self.id, renumber(resources, self.disks))

    async def processes(self) -> Sequence[pb.Process]:
        """Those in the guest; empty when stopped."""
        if self.status is Status.STOPPED:
            return ()
        return (await self._agent.processes(self.id)).processes

    def host_pids(self) -> list[int]:
        """The stand-ins: the only pids that mean something on the host."""
        return [] if self.status is Status.STOPPED else [self.pid, *(g.pid for g in self.execs.values())]

    def processes_here(self) -> list[GuestProcess]:
        """Init and execs, as far as they have not been taken leave of."""
        return [*([self.init] if self.init is not None else []), *self.execs.values()]

    async def stats(self) -> pb.StatsReply:
        advance(self.id, self.status, Action.STATS)
        return await self._agent.stats(self.id)

    async def exec(self, request: Mapping[str, Any], attachment: Attachment) -> Started:
        """Starts a process and takes the attachment over.

        Raises WrongStatus, SpecError, what the agent raises.
        """
        advance(self.id, self.status, Action.EXEC)
        process = exec_process(self.plan.process, request)
        exec_id = f"exec{next(self._exec_numbers)}"
        first = pb.ExecRequest(
            container_id=self.id,
            exec_id=exec_id,
            process_json=json.dumps(process).encode(),
            cgroup=sub_cgroup(request.get("cgroup") or ""),
        )
        pump = StdioPump(self._agent, first, attachment.take_stdio())
        try:
            reply = await self._agent.within_deadline(_begun(pump, bool(process.get("consoleSize"))))
        except BaseException:
            pump.cancel()
            raise
        self.execs[exec_id] = GuestProcess(self._agent, (self.id, exec_id), pump, attachment)
        seconds = reply.crun_seconds
        return Started(exec_id, seconds if 0 <= seconds < _MAX_SECONDS else 0.0)

    async def exec_ended(self, exec_id: str) -> None:
        """Waits for an exec and lets its stand-in go."""
        guest = self.execs[exec_id]
        status = await guest.wait()
        guest.standin.finish(status)
        await guest.pump.finished()
        del self.execs[exec_id]

    async def ended(self) -> None:
        """Waits for the init process; then the status is stopped, but nobody has been told."""
        assert self.init is not None
        self.exit_status = await self.init.wait()
        self.status = advance(self.id, self.status, Action.EXIT)
        self._not_paused.set()

    async def clear(self) -> None:
        """Takes what is left of a container that has ended out of the guest. Raises what the agent raises."""
        with contextlib.suppress(WrongStatus):
            await self._agent.signal(self.id, names.INIT_EXEC_ID, SIGKILL, True)
        pumps = [asyncio.create_task(process.pump.finished()) for process in self.processes_here()]
        if pumps:
            _, late = await asyncio.wait(pumps, timeout=_LAST_OUTPUT_S)
            for task in late:
                task.cancel()
        await self._agent.remove(self.id)

    def abandon(self) -> None:
        """What was never created: whoever waits for it goes on."""
        if self.init is not None:
            self.init.pump.cancel()
            self.init.standin.finish(KILLED)

    def release(self) -> None:
        """Tells the stand-ins: the last act."""
        for guest in self.execs.values():
            guest.standin.finish(KILLED if guest.status is None else guest.status)
        if self.init is not None:
            self.init.standin.finish(KILLED if self.exit_status is None else self.exit_status)
        self.over.set()
