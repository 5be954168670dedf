"""AgentClient: one typed method per RPC, with the secret, a deadline, and our errors. Supervisor only.

What comes back is a guest's word: texts are cut and stripped here, numbers are checked where they are used.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio

from katapy.agent_client.replies import BoundedChannel, believed
from katapy.agent_client.text import printable
from katapy.errors import (
    AgentError,
    AlreadyExists,
    HypervisorError,
    KatapyError,
    NotFound,
    SpecError,
    Timeout,
    Unsupported,
    WrongStatus,
)
from katapy.protocol import agent_pb2 as pb
from katapy.protocol import agent_pb2_grpc, names

Reply = TypeVar("Reply")

_RESIZE_S = 65.0
"""The guest waits three times 20 seconds at most, and says then what it waited for."""
_SILENT = "waiting for the agent in the guest"
_LATE_S = 1.0
"""After the deadline that grpc is given: it is late by half a minute when a guest floods it with headers."""

_ERRORS: dict[grpc.StatusCode, type[KatapyError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: WrongStatus,
    grpc.StatusCode.INVALID_ARGUMENT: SpecError,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    grpc.StatusCode.UNAVAILABLE: HypervisorError,
    grpc.StatusCode.ABORTED: Timeout,  # the agent's own; DEADLINE_EXCEEDED is that of the call
}


class AgentClient:
    """Calls to one agent. The channel is the caller's; `request_s` is the deadline of a call in seconds."""

    def __init__(self, channel: grpc.aio.Channel, secret: str, request_s: float) -> None:
        self._stub = agent_pb2_grpc.AgentStub(BoundedChannel(channel))  # type: ignore[call-overload]
        self._metadata = ((names.SECRET_METADATA, secret),)
        self._request_s = request_s

    async def _call(
        self, what: str, method: Callable[..., Awaitable[Reply]], request: Any, seconds: float | None = None
    ) -> Reply:
        """`what`: what the agent is waited for, for the user to read."""
        limit = self._request_s if seconds is None else seconds
        try:
            async with asyncio.timeout(limit + _LATE_S):
                return believed(await method(request, metadata=self._metadata, timeout=limit))
        except TimeoutError as e:
            raise Timeout(f"{_SILENT} to {what}", limit) from e
        except grpc.aio.AioRpcError as e:
            if e.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise Timeout(f"{_SILENT} to {what}", limit) from e
            raise self.translate(e) from e
        except grpc.aio.UsageError as e:
            raise HypervisorError("the agent in the guest is gone: the channel is closed") from e

    async def within_deadline(self, answer: Awaitable[Reply]) -> Reply:
        """What comes over a stream, as late as the reply of a call may come. Raises Timeout."""
        try:
            async with asyncio.timeout(self._request_s):
                return await answer
        except TimeoutError as e:
            raise Timeout(f"{_SILENT} to start a process", self._request_s) from e

    @staticmethod
    def translate(error: grpc.aio.AioRpcError) -> KatapyError:
        """The error that a failed call means to a user."""
        details = printable(error.details() or "") or f"the agent in the guest answered {error.code().name}"
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return HypervisorError(f"the agent in the guest is gone: {details}")
        return _ERRORS.get(error.code(), AgentError)(details)

    async def hello(self, seconds: float) -> pb.HelloReply:
        """Raises AgentError if the guest image is of another protocol version."""
        reply: pb.HelloReply = await self._call(
            "say hello", self._stub.Hello, pb.HelloRequest(protocol_version=names.PROTOCOL_VERSION), seconds
        )
        if reply.protocol_version != names.PROTOCOL_VERSION:
            raise AgentError(
                f"the guest image speaks protocol {reply.protocol_version}, "
                f"this katapy {names.PROTOCOL_VERSION}: build the image again"
            )
        return reply

    async def create_sandbox(self, request: pb.CreateSandboxRequest) -> None:
        await self._call("mount the pod's share", self._stub.CreateSandbox, request)

    async def destroy_sandbox(self, seconds: float) -> None:
        await self._call("write everything back", self._stub.DestroySandbox, pb.Empty(), seconds)

    async def update_network(self, request: pb.UpdateNetworkRequest, seconds: float) -> None:
        """The guest waits for devices that were plugged in, so this may take long."""
        await self._call("set up the network", self._stub.UpdateNetwork, request, seconds)

    async def find_disk(self, serial: str) -> pb.FindDiskReply:
        """The guest waits for it: a disk that was plugged in."""
        return await self._call("find a disk", self._stub.FindDisk, pb.FindDiskRequest(serial=serial))

    async def resize(self, cpus: int, more_memory_mib: int) -> None:
        """The guest waits for what was plugged in."""
        request = pb.ResizeRequest(cpus=cpus, more_memory_bytes=more_memory_mib << 20)
        await self._call("use more memory or processors", self._stub.Resize, request, _RESIZE_S)

    async def create_container(
        self, container_id: str, spec_json: bytes, tmpfs: Sequence[pb.GuestTmpfs] = (), guest_writes: bool = False
    ) -> None:
        request = pb.CreateContainerRequest(
            container_id=container_id, spec_json=spec_json, tmpfs=tmpfs, guest_writes=guest_writes
        )
        await self._call("create the container", self._stub.CreateContainer, request)

    async def start(self, container_id: str) -> None:
        await self._call("start the container", self._stub.StartContainer, _of(container_id))

    async def pause(self, container_id: str) -> None:
        await self._call("pause the container", self._stub.PauseContainer, _of(container_id))

    async def resume(self, container_id: str) -> None:
        await self._call("resume the container", self._stub.ResumeContainer, _of(container_id))

    async def update(self, container_id: str, resources: Mapping[str, Any]) -> None:
        request = pb.UpdateContainerRequest(container_id=container_id, resources_json=json.dumps(resources).encode())
        await self._call("update the container", self._stub.UpdateContainer, request)

    async def remove(self, container_id: str) -> None:
        await self._call("remove the container", self._stub.RemoveContainer, _of(container_id))

    async def signal(self, container_id: str, exec_id: str, signum: int, everyone: bool = False) -> None:
        request = pb.SignalRequest(container_id=container_id, exec_id=exec_id, signal=signum, all=everyone)
        await self._call(f"send signal {signum}", self._stub.Signal, request)

    async def stats(self, container_id: str) -> pb.StatsReply:
        return await self._call("count what the container uses", self._stub.Stats, _of(container_id))

    async def processes(self, container_id: str) -> pb.ListProcessesReply:
        return await self._call("list the processes", self._stub.ListProcesses, _of(container_id))

    def stdio(self) -> Any:
        """A new Stdio stream (grpc.aio.StreamStreamCall); no deadline: it lives as long as the process."""
        return self._stub.Stdio(metadata=self._metadata)

    def dial(self) -> Any:
        """A new Dial stream (grpc.aio.StreamStreamCall); no deadline: it lives as long as the connection."""
        return self._stub.Dial(metadata=self._metadata)

    async def events(self) -> AsyncIterator[pb.Event]:
        """OOM and exit events until the channel closes. Raises as the calls do."""
        stream: Any = self._stub.Events(pb.Empty(), metadata=self._metadata)
        try:
            async for event in stream:
                yield believed(event)
        except grpc.aio.AioRpcError as e:
            raise self.translate(e) from e


def _of(container_id: str) -> pb.ContainerRequest:
    return pb.ContainerRequest(container_id=container_id)
