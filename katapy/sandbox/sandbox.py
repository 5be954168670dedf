"""A sandbox: one machine, its agent, its containers.

The only orchestration; both front doors drive this. Supervisor only.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Coroutine, Mapping, Sequence
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
from katapy.sandbox.claims import Claims
from katapy.sandbox.container import SIGKILL, Attachment, Container, Started
from katapy.sandbox.demand import NO_DEMAND, larger, updated
from katapy.sandbox.disk_numbers import numbers_of, place_disks
from katapy.sandbox.disks import PodDisks
from katapy.sandbox.events import Events
from katapy.sandbox.guest_spec import place_binds
from katapy.sandbox.host import Host
from katapy.sandbox.host_names import named_by_host
from katapy.sandbox.lifecycle import Status
from katapy.sandbox.network import PodNetwork
from katapy.sandbox.plan import SHARE_OPTIONS, ContainerPlan, SandboxPlan
from katapy.sandbox.size import PodSize
from katapy.sandbox.timings import Timings

T = TypeVar("T")
log = logging.getLogger(__name__)

_FLUSH_S = 2.0
"""For the guest's last sync: after it the machine is killed whatever it says."""
_LAST_OUTPUT_S = 2.0
"""For what a machine that is gone has said last, and that somebody still has to read."""
_LAST_BREATH_S = 0.3
"""A machine's end is noticed that much later than that of its channel."""
_SILENT_CHECKS = 3
_MAX_PHASE = 32


class Sandbox:
    """The first container is the sandbox's own: the machine lives as long as it, and as long as any other container.

    `ended` is set when all have ended, or the first was deleted, and the machine is gone.
    """

    def __init__(
        self,
        plan: SandboxPlan,
        config: Config,
        vm: Vm,
        secret: str,
        timings: Timings,
        network: PodNetwork,
        host: Host,
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        """`channel`: to an agent that has answered already."""
        self.plan = plan
        self.containers: dict[str, Container] = {}
        self.ended = asyncio.Event()
        self.timings = timings
        self._config = config
        self._vm = vm
        self._secret = secret
        self._host = host
        self.events = Events(self.call)
        self.network = network
        self._channel = channel
        self._disks = PodDisks(vm)
        self._size = PodSize(vm, plan)
        self._claims = Claims()
        self._tasks: set[asyncio.Task[Any]] = set()
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
            if self._channel is None:
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
                hostname=self.plan.container.hostname or os.uname().nodename,  # a new UTS namespace has its parent's
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
            if task.done() and (task.cancelled() or isinstance(task.exception(), HypervisorError)):
                await asyncio.wait((death,), timeout=_LAST_BREATH_S)
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

    async def create(self, plan: ContainerPlan, attachment: Attachment, trees: Sequence[int] = ()) -> Container:
        """Creates a container; `attachment` is taken over or closed. A failure leaves nothing of it.

        `trees`: its root file system and binds, the caller's; without them they are looked up by path.
        """
        with attachment:
            await self._claims.take(plan.id, self.containers)
            try:
                container = await self._make(plan, attachment, trees)
                self.containers[plan.id] = container
            finally:
                self._claims.give_back(plan.id)
        if plan.id == self.plan.id:
            self.timings.mark("container created")
        self._spawn(self._watch_init(container))
        return container

    async def _make(self, plan: ContainerPlan, attachment: Attachment, trees: Sequence[int]) -> Container:
        agent = await self._ready()
        if plan.id == self.plan.id:
            await self._while_alive(self.network.attach(agent, attachment.pid))
        container = Container(plan, agent, self._host.save)
        try:
            await self._while_alive(self._size.fit(agent, plan.id, container.demand))
            paths = self._host.share(plan, trees)
            document = place_binds(plan.spec_json, paths)
            disks = await self._while_alive(self._disks.attach(agent, plan.id, plan.blocks))
            container.disks = numbers_of(disks)
            document = place_disks(document, plan.blocks, disks)
            try:
                await self._while_alive(container.create(attachment, document))
            except KatapyError as e:
                raise named_by_host(e, plan, paths) from e
        except BaseException:
            await self._claims.undo(plan.id, self._undo(agent, container))
            raise
        return container

    async def update(self, container_id: str, resources: Mapping[str, Any]) -> None:
        """New limits. The machine grows before, and shrinks afterwards."""
        container, agent = self.container(container_id), await self._ready()
        before, after = container.demand, updated(container.demand, resources)
        if container.status is not Status.STOPPED:
            await self._while_alive(self._size.fit(agent, container_id, larger(before, after)))
        try:
            await self._while_alive(container.update(resources))
            container.demand = after
        finally:
            self._spawn(self._shrink(container))

    async def _undo(self, agent: AgentClient, container: Container) -> None:
        """A create that failed, or whose caller has gone, may have made the container all the same."""
        with contextlib.suppress(KatapyError):
            await self._while_alive(self._remove(agent, container.id))
        self._unshare(container.id)
        container.abandon()

    async def _remove(self, agent: AgentClient, container_id: str) -> None:
        try:
            await agent.remove(container_id)
        finally:
            await self._disks.detach(container_id)
            await self._size.fit(agent, container_id, NO_DEMAND)

    def _unshare(self, container_id: str) -> None:
        """What can't be taken away now goes with the machine."""
        try:
            self._host.unshare(container_id)
        except (KatapyError, OSError) as e:
            log.warning("%s", e)

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
        """Ends a container, and with the first one the machine. Without `force` only one that was never started, or
        has ended."""
        container = self.container(container_id)
        if not force and container.status in (Status.RUNNING, Status.PAUSED):
            raise KatapyError(f"cannot delete container {container_id} that is not stopped: {container.status}")
        first = container_id == self.plan.id
        doomed = list(self.containers.values()) if first else [container]
        with contextlib.suppress(TimeoutError):  # a guest that does not answer is killed with its machine
            async with asyncio.timeout(self._config.timeouts.kill_s):
                await asyncio.gather(*(c.kill(SIGKILL, True) for c in doomed), return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for((self.ended if first else container.over).wait(), self._config.timeouts.kill_s)
        if first or not container.over.is_set():
            self._vm.kill()
            await self.ended.wait()
        elif self.containers.get(container_id) is container:  # not one that was made since, after another's delete
            del self.containers[container_id]

    # -- watching -------------------------------------------------------------------------------------

    async def _watch_init(self, container: Container) -> None:
        insisting = self._spawn(self._insist(container))
        await container.ended()
        insisting.cancel()
        if container.init is not None and container.init.pump.out_of_memory:
            self._note_shortage(container)
        if all(c.status is Status.STOPPED for c in self.containers.values()):
            await self._end()
        else:
            await self._part(container)

    async def _insist(self, container: Container) -> None:
        """SIGKILL is the guest's to deliver; one that does not is killed with its machine."""
        await container.condemned.wait()
        if not await container.dies(self._config.timeouts.kill_s):
            log.warning("the guest did not kill container %s: its machine is killed", container.id)
            self._vm.kill()

    async def _part(self, container: Container) -> None:
        """A container ends and the machine goes on. Whatever can't be taken away, the exit status is told."""
        try:
            await self._while_alive(self._clear(container))
        except KatapyError as e:
            log.warning("remove container %s from the guest: %s", container.id, e)
        finally:
            self._unshare(container.id)
            await self._tell(container)
        await self._shrink(container)

    async def _shrink(self, container: Container) -> None:
        """What a container does not need any more is given back. With the machine its size is nobody's affair."""
        demand = NO_DEMAND if container.status is Status.STOPPED else container.demand
        with contextlib.suppress(KatapyError):
            await self._while_alive(self._size.fit(await self._ready(), container.id, demand))

    async def _clear(self, container: Container) -> None:
        try:
            await container.clear()
        finally:
            await self._disks.detach(container.id)

    def _note_shortage(self, container: Container) -> None:
        """Once: a guest may say it as often as it likes."""
        if not container.short_of_memory:
            container.short_of_memory = True
            self._host.short_of_memory(container.plan)

    async def _tell(self, container: Container) -> None:
        """The state is saved first: whoever waits for the stand-in finds all of it done."""
        try:
            self._host.save(container)
            if container.short_of_memory:
                await asyncio.to_thread(self._host.note_kill, container.id)
        except (KatapyError, OSError) as e:
            log.error("%s", e)
        finally:
            container.release()

    async def _watch_events(self, agent: AgentClient) -> None:
        with contextlib.suppress(KatapyError):  # the channel's end is the machine's end: noticed elsewhere
            async for event in agent.events():
                container = self.containers.get(event.oom.container_id)
                if event.WhichOneof("event") == "oom" and container is not None:
                    self._note_shortage(container)
                    self.events.short_of_memory(container.id)

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

    # -- end ------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        """The machine goes, the states are saved, and only then the stand-ins."""
        await self.stop_machine(flush=True)
        for container in self.containers.values():
            await self._tell(container)
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
        self._size.close()
        self._host.release()


def _one_line(tail: str) -> str:
    return tail.replace("\n", " | ")
