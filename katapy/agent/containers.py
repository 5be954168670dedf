"""The containers of this machine and what can be done to them. Runs in the agent, in its one event loop.

A container is crun's; this is what crun does not keep: who its processes are, how they ended, and their stdio. Calls
that change one container take turns (its lock), different containers do not wait for each other.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from katapy.agent import crun, namespaces, writes
from katapy.agent.cgroup import Cgroup
from katapy.agent.documents import (
    cgroup_path,
    check_huge_pages,
    check_id,
    check_sub_cgroup,
    parse_object,
    wants_terminal,
)
from katapy.agent.launch import Process, launch
from katapy.agent.lifecycle import Event, State, next_state
from katapy.agent.memory_volumes import MemoryVolumes
from katapy.agent.oom import OomWatch
from katapy.agent.reaper import Reaper
from katapy.agent.resources import plan_writes
from katapy.agent.shares import MountNamespaces, enter_shares
from katapy.errors import AlreadyExists, HostError, NotFound, SpecError, WrongStatus
from katapy.protocol import agent_pb2 as pb
from katapy.protocol import names

FINISHED_EXECS = 128
"""Ended execs of a container whose status and output are kept."""

ANSWERED_S = 1.0
"""How long the removal of a container waits for the server of its files."""

ExitListener = Callable[[str, str, int], None]
"""Is told container id, exec id and status of what has ended."""


class Container:
    """One container. Owns its processes."""

    def __init__(self, container_id: str, cgroup: Cgroup) -> None:
        self.id = container_id
        self.cgroup = cgroup
        self.state = State.CREATING
        self.lock = asyncio.Lock()
        self.processes: dict[str, Process] = {}
        """By exec id; init is names.INIT_EXEC_ID."""
        self.launching: set[str] = set()
        """Exec ids that are taken, though there is no process yet."""

    @property
    def directory(self) -> str:
        return f"{names.GUEST_CONTAINERS}/{self.id}"

    def process(self, exec_id: str) -> Process:
        """Raises NotFound."""
        try:
            return self.processes[exec_id]
        except KeyError:
            raise NotFound(f"no process {exec_id[:64]!r} in container {self.id}") from None

    def happened(self, event: Event) -> None:
        """Raises WrongStatus."""
        self.state = next_state(self.state, event)

    def forget_execs(self, keep: int) -> None:
        """Drops the oldest of the execs that have ended and that nobody is attached to, down to `keep`."""
        ended = [name for name, process in self.processes.items() if name and process.over]
        for name in ended[: max(0, len(ended) - keep)]:
            self.processes.pop(name).close()


class Containers:
    """All of them. `on_exit` hears of every init and exec that ends, after it can be waited for."""

    def __init__(self, reaper: Reaper, oom: OomWatch, on_exit: ExitListener) -> None:
        self._reaper = reaper
        self._oom = oom
        self._on_exit = on_exit
        self._by_id: dict[str, Container] = {}
        self._mounts = MountNamespaces()
        self.memory_volumes = MemoryVolumes()

    def get(self, container_id: str) -> Container:
        """Raises NotFound; also while the container is still being created."""
        container = self._by_id.get(container_id)
        if container is None or container.state is State.CREATING:
            raise NotFound(f"container {container_id[:64]!r} does not exist in the guest")
        return container

    def ids(self) -> list[str]:
        return [container.id for container in self._by_id.values() if container.state is not State.CREATING]

    async def create(
        self, container_id: str, spec_json: bytes, tmpfs: Sequence[pb.GuestTmpfs] = (), guest_writes: bool = False
    ) -> Container:
        """crun create. Raises AlreadyExists, SpecError, HostError, AgentError; then nothing is left of it."""
        check_id("container id", container_id)
        spec = parse_object("config.json", spec_json)
        check_huge_pages(spec)
        if container_id in self._by_id:
            raise AlreadyExists(f"container {container_id!r} exists in the guest")
        container = Container(container_id, Cgroup(cgroup_path(spec, container_id)))
        self._by_id[container_id] = container
        try:
            self.memory_volumes.use(container_id, tmpfs)
            enter_shares(spec)
            if guest_writes:
                writes.mount_root(container.id)
            await self._create(container, spec, spec_json)
        except BaseException:
            await asyncio.shield(self._discard(container))
            raise
        return container

    async def _create(self, container: Container, spec: Mapping[str, Any], spec_json: bytes) -> None:
        os.mkdir(container.directory, mode=0o700)
        with open(f"{container.directory}/config.json", "wb") as file:
            file.write(spec_json)

        def arguments(options: list[str]) -> list[str]:
            return ["create", f"--bundle={container.directory}", *options, container.id]

        scratch = f"{container.directory}/init"
        process = await launch(self._reaper, scratch, wants_terminal(spec.get("process")), arguments)
        try:
            namespaces.keep(container.id, process.pid)
            self._mounts.hold(container.id, process.pid)
        except OSError as error:
            process.close()
            raise HostError(f"keep the namespaces of {container.id}: {error.strerror}") from error
        container.happened(Event.CREATED)
        self._oom.watch(container.id, container.cgroup)
        self._adopt(container, names.INIT_EXEC_ID, process)

    def _adopt(self, container: Container, exec_id: str, process: Process) -> None:
        """From here on the process is the container's, and its end is noticed."""
        container.processes[exec_id] = process

        def ended(exited: "asyncio.Future[int]") -> None:
            if exec_id == names.INIT_EXEC_ID:
                container.happened(Event.EXITED)
                self._oom.check(container.id)
            self._on_exit(container.id, exec_id, exited.result())

        process.exited.add_done_callback(ended)

    async def start(self, container_id: str) -> None:
        """crun start. Raises NotFound, WrongStatus, AgentError."""
        container = self.get(container_id)
        async with container.lock:
            next_state(container.state, Event.STARTED)
            await crun.run(self._reaper, f"{container.directory}/start.log", ["start", container.id])
            if container.state is State.CREATED:  # unless it has run to its end by now
                container.happened(Event.STARTED)

    async def pause(self, container_id: str) -> None:
        """Raises NotFound, WrongStatus, HostError, Timeout."""
        await self._freeze(container_id, Event.PAUSED, frozen=True)

    async def resume(self, container_id: str) -> None:
        """As `pause`."""
        await self._freeze(container_id, Event.RESUMED, frozen=False)

    async def _freeze(self, container_id: str, event: Event, frozen: bool) -> None:
        container = self.get(container_id)
        async with container.lock:
            next_state(container.state, event)
            await container.cgroup.freeze(frozen)
            container.happened(event)

    async def update(self, container_id: str, resources_json: bytes) -> None:
        """Writes linux.resources to the cgroup. Raises NotFound, WrongStatus, SpecError, HostError."""
        container = self.get(container_id)
        resources = parse_object("resources", resources_json)
        async with container.lock:
            if container.state is State.STOPPED:
                raise WrongStatus("cannot update a container that has stopped")
            for name, value in plan_writes(resources, container.cgroup.read):
                container.cgroup.write(name, value)

    async def exec(self, container_id: str, exec_id: str, process_json: bytes, cgroup: str) -> Process:
        """crun exec. Raises NotFound, AlreadyExists, WrongStatus, SpecError, AgentError."""
        container = self.get(container_id)
        check_id("exec id", exec_id)
        check_sub_cgroup(cgroup)
        terminal = wants_terminal(parse_object("process", process_json))
        if exec_id in container.processes or exec_id in container.launching:
            raise AlreadyExists(f"process {exec_id!r} exists in container {container.id}")
        if container.state is State.STOPPED:
            raise WrongStatus("cannot exec in a stopped container")
        if container.state in (State.PAUSED, State.PAUSED_CREATED):
            raise WrongStatus("cannot exec in a paused container")
        container.forget_execs(FINISHED_EXECS)
        container.launching.add(exec_id)
        try:
            process = await self._exec(container, exec_id, process_json, cgroup, terminal)
        finally:
            container.launching.discard(exec_id)
        self._adopt(container, exec_id, process)
        return process

    async def _exec(
        self, container: Container, exec_id: str, process_json: bytes, cgroup: str, terminal: bool
    ) -> Process:
        scratch = f"{container.directory}/exec-{exec_id}"
        with open(f"{scratch}.json", "wb") as file:
            file.write(process_json)

        def arguments(options: list[str]) -> list[str]:
            inside = [f"--cgroup={cgroup}"] if cgroup else []
            return ["exec", "--detach", f"--process={scratch}.json", *inside, *options, container.id]

        try:
            return await launch(self._reaper, scratch, terminal, arguments)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{scratch}.json")

    def signal(self, container_id: str, exec_id: str, number: int, every: bool) -> None:
        """Raises NotFound, WrongStatus if the process has ended, SpecError for a number that is no signal."""
        container = self.get(container_id)
        if not 0 <= number <= signal.SIGRTMAX:
            raise SpecError(f"{number} is not a signal")
        if every:
            container.cgroup.signal_all(number)
        else:
            container.process(exec_id).signal(number)

    async def remove(self, container_id: str) -> None:
        """Kills what is left of it and forgets it. Raises NotFound, AgentError, Timeout."""
        container = self.get(container_id)
        async with container.lock:
            self.get(container_id)  # another call may have been first
            container.cgroup.signal_all(signal.SIGKILL)
            await container.cgroup.emptied()
            for process in list(container.processes.values()):
                await process.wait()
            await self._discard(container)

    async def _discard(self, container: Container) -> None:
        """Removes whatever there is of it."""
        self._oom.unwatch(container.id)
        namespaces.drop(container.id)
        try:
            if os.path.isdir(f"{crun.ROOT}/{container.id}"):
                log = f"{container.directory}/delete.log"
                await crun.run(self._reaper, log, ["delete", "--force", container.id])
            await container.cgroup.remove()
        finally:
            await self._mounts.let_go(container.id, ANSWERED_S)
            for process in container.processes.values():
                process.close()
            container.processes.clear()
            writes.unmount_root(container.id)
            _remove_directory(container.directory)
            self.memory_volumes.drop(container.id)
            self._by_id.pop(container.id, None)


def _remove_directory(path: str) -> None:
    """A directory of plain files, if it is there. (shutil would cost every start of a machine a tenth of a second.)"""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)
