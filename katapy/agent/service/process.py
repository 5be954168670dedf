"""Calls about one process; exec id "" is the container's init. Runs in the agent."""

from typing import Any

from katapy.agent.machine import Machine
from katapy.protocol import agent_pb2 as pb


class ProcessCalls:
    machine: Machine

    async def Exec(self, request: pb.ExecRequest, context: Any) -> pb.ExecReply:
        process = await self.machine.containers.exec(
            request.container_id, request.exec_id, request.process_json, request.cgroup
        )
        return pb.ExecReply(guest_pid=process.pid, crun_seconds=process.crun_seconds)

    async def Signal(self, request: pb.SignalRequest, context: Any) -> pb.Empty:
        self.machine.containers.signal(request.container_id, request.exec_id, request.signal, request.all)
        return pb.Empty()

    async def Wait(self, request: pb.ProcessRequest, context: Any) -> pb.WaitReply:
        process = self.machine.containers.get(request.container_id).process(request.exec_id)
        return pb.WaitReply(status=await process.wait())
