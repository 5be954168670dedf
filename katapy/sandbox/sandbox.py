"""A sandbox: one machine, its agent, its containers.

The only orchestration; both front doors drive this. Supervisor only.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import grpc.aio

from katapy.agent_client.channel import open_channel
from katapy.agent_client.client import AgentClient
from katapy.agent_client.text import printable
from katapy.config import Config
from katapy.errors import HypervisorError, KatapyError, NotFound, Timeout
from katapy.hypervisor.vm import Vm
from katapy.linux import proc
from katapy.linux.socket_path import short_name
from katapy.protocol import agent_pb2 as pb
from katapy.protocol import names
from katapy.sandbox.container import Attachment, Container, Started
from katapy.sandbox.lifecycle import Status
from katapy.sandbox.network import PodNetwork
from katapy.sandbox.plan import SHARE_OPTIONS, ContainerPlan, SandboxPlan
from katapy.sandbox.timings import Timings

T = TypeVar("T")

_FLUSH_S = 2.0
"""For the guest's last sync: after it the machine is killed whatever it says."""
_LAST_OUTPUT_S = 2.0
"""For what a machine that is gone has said last, and that somebody still has to read."""
_LAST_STATS_S = 10.0
"""From the first refusal of statistics to the container's end, if that is why."""
_SILENT_CHECKS = 3
_MAX_PHASE = 32


class Sandbox:
    """`on_change(container)` saves a container's state.
    `release_host()` gives back shares and helpers once the machine is gone.

    `ended` is set when the last container has ended and the machine is gone.
    """

    def __init__(
        self,
        plan: SandboxPlan,
        config: Config,
        vm: Vm,
        secret: str,
        timings: Timings,
        network: PodNetwork,
        on_change: Callable[[Container], None],
        release_host: Callable[[], None],
    ) -> None:
        self.plan = plan
        self.containers: dict[str, Container] = {}
        self.ended = asyncio.Event()
        self.timings = timings
        self._config = config
        self._vm = vm
        self._secret = secret
        self._on_change = on_change
        self._release_host = release_host
        self.network = network
        self._channel: grpc.aio.Channel | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._subscribers: set[asyncio.Queue[str]] = set()
        self._watchers: list[asyncio.Task[None]] = []
        self._booted = self._spawn(self._boot())
        self._spawn(self._watch_machine())

    # -- start ---------------------------------------------------------------------------------------

    async def _boot(self) -> AgentClient:
        limit = self._config.timeouts.boot_s
        deadline = time.monotonic() + limit
        agent = await self._while_alive(self._dial(deadline))
        self._watchers = [self._spawn(self._watch_events(agent)), self._spawn(self._watch_silence(agent))]
        return agent

    async def _dial(self, deadline: float) -> AgentClient:
        await self._vm.connect(deadline - time.monotonic())
        self.timings.mark("qemu")
        await self._vm.agent_ready(deadline - time.monotonic())
        self.timings.mark("agent port")
        await self.network.prepare()
        with short_name(self._vm.agent_socket) as socket:
            self._channel = open_channel(socket)
            agent = AgentClient(self._channel, self._secret, self._config.timeouts.request_s)
            try:
                await agent.hello(max(1.0, deadline - time.monotonic()))
            except Timeout as e:
                raise HypervisorError(f"{e}; the guest said last: {_one_line(self._vm.tail())}") from e
        self.timings.mark("agent ready")
        share = self.plan.facts.share
        await agent.create_sandbox(
            pb.CreateSandboxRequest(
                sandbox_id=self.plan.id,
                hostname=self.plan.container.hostname,
                unix_nanoseconds=time.time_ns(),  # the one in the boot message is old by the time it is read
                shares=[
                    pb.Share(
                        tag=names.SHARE_TAG, type=share.value, target=names.GUEST_SHARED, options=SHARE_OPTIONS[share]
                    )
                ],
            )
        )
        self.timings.mark("sandbox created")
        return agent

    async def _while_alive(self, work: Coroutine[Any, Any, T]) -> T:
        """`work`, or HypervisorError as soon as the machine is gone, or if it is frozen."""
        if proc.is_stopped(self._vm.pid):
            work.close()
            raise HypervisorError(f"the machine is frozen: qemu (pid {self._vm.pid}) is stopped by a signal")
        task = asyncio.create_task(work)
        death = asyncio.create_task(self._vm.wait())
        try:
            await asyncio.wait((task, death), return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not task.cancelled() and (not death.done() or task.exception() is None):
                return task.result()
            if not death.done():  # closing the channel cancels what is under way
                raise HypervisorError("the agent in the guest is gone: the channel is closed")
            end = death.result()
            raise HypervisorError(f"{end.reason}{': ' + _one_line(end.tail) if end.tail else ''}")
        finally:
            task.cancel()
            death.cancel()
            await asyncio.wait((task,))

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _ready(self) -> AgentClient:
        return await asyncio.shield(self._booted)

    # -- containers -----------------------------------------------------------------------------------

    def guest_phases(self) -> dict[str, float]:
        """Milestones that the guest reported: seconds since its kernel started. Hearsay, for `--timings`."""
        return {printable(name, _MAX_PHASE): seconds for name, seconds in self._vm.phases}

    def container(self, container_id: str) -> Container:
        """Raises NotFound."""
        try:
            return self.containers[container_id]
        except KeyError:
            raise NotFound("container does not exist") from None

    async def create(self, plan: ContainerPlan, attachment: Attachment) -> Container:
        """Creates a container; `attachment` is taken over or closed. A failure leaves nothing of it."""
        with attachment:
            agent = await self._ready()
            await self._while_alive(self.network.attach(agent, attachment.pid))
            container = Container(plan, agent, self._on_change)
            await self._while_alive(container.create(attachment))
        self.containers[plan.id] = container
        self.timings.mark("container created")
        self._spawn(self._watch_init(container))
        return container

    async def exec(self, container_id: str, request: Mapping[str, Any], attachment: Attachment) -> Started:
        """Starts an exec; `attachment` is taken over or closed."""
        with attachment:
            container = self.container(container_id)
            started = await self._while_alive(container.exec(request, attachment))
        self._spawn(container.exec_ended(started.exec_id))
        return started

    async def round_trip_s(self) -> float:
        """How long one unary call takes: a measure for others."""
        agent = await self._ready()
        begun = time.monotonic()
        await self.call(agent.hello(self._config.timeouts.request_s))
        return time.monotonic() - begun

    async def call(self, action: Coroutine[Any, Any, T]) -> T:
        """`action` on a container, cut short when the machine dies."""
        return await self._while_alive(action)

    async def delete(self, container_id: str, force: bool) -> None:
        """Ends a container, and with the last one the machine. Without `force` only one that was never started."""
        container = self.container(container_id)
        if not force and container.status in (Status.RUNNING, Status.PAUSED):
            raise KatapyError(f"cannot delete container {container_id} that is not stopped: {container.status}")
        with contextlib.suppress(KatapyError, TimeoutError):  # a guest that does not answer is killed with its machine
            await asyncio.wait_for(container.kill(9, True), self._config.timeouts.kill_s)
            await asyncio.wait_for(self.ended.wait(), self._config.timeouts.kill_s)
        self._vm.kill()
        await self.ended.wait()

    # -- watching -------------------------------------------------------------------------------------

    async def _watch_init(self, container: Container) -> None:
        await container.ended()
        if all(c.status is Status.STOPPED for c in self.containers.values()):
            await self._end()

    async def _watch_events(self, agent: AgentClient) -> None:
        with contextlib.suppress(KatapyError):  # the channel's end is the machine's end: noticed elsewhere
            async for event in agent.events():
                if event.WhichOneof("event") == "oom" and event.oom.container_id in self.containers:
                    for queue in self._subscribers:
                        if not queue.full():  # a guest may flood; a subscriber that is that far behind knows enough
                            queue.put_nowait(event.oom.container_id)

    async def _watch_machine(self) -> None:
        """With the machine all its processes have ended, also those whose output nobody reads."""
        await self._vm.wait()
        for watcher in self._watchers:
            watcher.cancel()
        pumps = [process.pump for container in self.containers.values() for process in container.processes_here()]
        if pumps:
            await asyncio.wait([pump.exited for pump in pumps], timeout=_LAST_OUTPUT_S)
        for pump in pumps:
            pump.cancel()

    async def _watch_silence(self, agent: AgentClient) -> None:
        """An agent that does not answer several times in a row is dead: so is the machine, then."""
        silent = 0
        while silent < _SILENT_CHECKS:
            await asyncio.sleep(self._config.timeouts.heartbeat_s)
            try:
                await agent.hello(self._config.timeouts.heartbeat_s)
                silent = 0
            except KatapyError:
                silent += 1
        self._vm.kill()

    async def events(self, container: Container, interval_s: float) -> AsyncIterator[tuple[str, pb.StatsReply | None]]:
        """("stats", reply) at once and every `interval_s` seconds, ("oom", None) as it happens, until the container
        ends."""
        queue: asyncio.Queue[str] = asyncio.Queue(maxsize=1024)
        self._subscribers.add(queue)
        try:
            yield "stats", await self.call(container.stats())
            while not self.ended.is_set() and container.status is not Status.STOPPED:
                try:
                    owner = await asyncio.wait_for(self._next_event(queue), interval_s)
                except TimeoutError:
                    if (reply := await self._stats_unless_ended(container)) is not None:
                        yield "stats", reply
                    continue
                if owner == container.id:
                    yield "oom", None
        finally:
            self._subscribers.discard(queue)

    async def _stats_unless_ended(self, container: Container) -> pb.StatsReply | None:
        """None if the container has ended meanwhile: the guest may know it before its exit status has arrived."""
        try:
            return await self.call(container.stats())
        except KatapyError:
            if container.status is not Status.STOPPED:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.ended.wait(), _LAST_STATS_S)
            if container.status is not Status.STOPPED:
                raise
            return None

    async def _next_event(self, queue: "asyncio.Queue[str]") -> str:
        """The container that was short of memory; empty when the sandbox ends."""
        event, end = asyncio.create_task(queue.get()), asyncio.create_task(self.ended.wait())
        try:
            await asyncio.wait((event, end), return_when=asyncio.FIRST_COMPLETED)
            return event.result() if event.done() else ""
        finally:
            event.cancel()
            end.cancel()

    # -- end ------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        """The machine goes, the states are saved, and only then the stand-ins: whoever waits for them finds all of it
        done."""
        await self.stop_machine(flush=True)
        for container in self.containers.values():
            self._on_change(container)
        for container in self.containers.values():
            container.release()
        self.ended.set()

    async def stop_machine(self, flush: bool = False) -> None:
        """Kills the machine and waits for its end. `flush`: lets the guest write back what it has mapped first."""
        if flush and self._booted.done() and not self._booted.cancelled() and self._booted.exception() is None:
            with contextlib.suppress(KatapyError):
                await self._while_alive(self._booted.result().destroy_sandbox(_FLUSH_S))
        self._vm.kill()
        await self._vm.wait()
        if self._channel is not None:
            await self._channel.close(None)
        self.network.close()
        self._release_host()


def _one_line(tail: str) -> str:
    return tail.replace("\n", " | ")
