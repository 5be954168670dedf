"""Calls about devices that the host plugs in. Runs in the agent."""

from typing import Any

from katapy.agent import disks
from katapy.agent.machine import Machine
from katapy.protocol import agent_pb2 as pb


class DeviceCalls:
    machine: Machine

    async def FindDisk(self, request: pb.FindDiskRequest, context: Any) -> pb.FindDiskReply:
        return await disks.find(request.serial)

    async def Resize(self, request: pb.ResizeRequest, context: Any) -> pb.Empty:
        await self.machine.growth.wait(request.cpus, request.more_memory_bytes)
        return pb.Empty()
