"""Calls about one container. Runs in the agent."""

import os
from typing import Any

from katapy.agent import ps, stats
from katapy.agent.containers import Container
from katapy.agent.lifecycle import State
from katapy.agent.machine import Machine
from katapy.agent.shares import forget_files
from katapy.errors import WrongStatus
from katapy.protocol import agent_pb2 as pb
from katapy.protocol import names


class ContainerCalls:
    machine: Machine

    async def CreateContainer(self, request: pb.CreateContainerRequest, context: Any) -> pb.CreateContainerReply:
        container = await self.machine.containers.create(
            request.container_id, request.spec_json, request.tmpfs, request.guest_writes
        )
        return pb.CreateContainerReply(guest_pid=container.process(names.INIT_EXEC_ID).pid)

    async def StartContainer(self, request: pb.ContainerRequest, context: Any) -> pb.Empty:
        await self.machine.containers.start(request.container_id)
        return pb.Empty()

    async def PauseContainer(self, request: pb.ContainerRequest, context: Any) -> pb.Empty:
        await self.machine.containers.pause(request.container_id)
        return pb.Empty()

    async def ResumeContainer(self, request: pb.ContainerRequest, context: Any) -> pb.Empty:
        await self.machine.containers.resume(request.container_id)
        return pb.Empty()

    async def UpdateContainer(self, request: pb.UpdateContainerRequest, context: Any) -> pb.Empty:
        await self.machine.containers.update(request.container_id, request.resources_json)
        return pb.Empty()

    async def RemoveContainer(self, request: pb.ContainerRequest, context: Any) -> pb.Empty:
        await self.machine.containers.remove(request.container_id)
        forget_files()
        return pb.Empty()

    async def Stats(self, request: pb.ContainerRequest, context: Any) -> pb.StatsReply:
        return stats.collect(self._live(request.container_id).cgroup.read, _page_sizes())

    async def ListProcesses(self, request: pb.ContainerRequest, context: Any) -> pb.ListProcessesReply:
        pids = self._live(request.container_id).cgroup.pids()
        return pb.ListProcessesReply(processes=ps.list_processes(pids))

    def _live(self, container_id: str) -> Container:
        container = self.machine.containers.get(container_id)
        if container.state is State.STOPPED:
            raise WrongStatus(f"container {container_id} is not running")
        return container


def _page_sizes() -> list[str]:
    try:
        return [stats.page_size_name(name) for name in sorted(os.listdir(stats.HUGE_PAGES))]
    except FileNotFoundError:
        return []
