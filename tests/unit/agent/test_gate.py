"""The server on a unix socket: the secret, and errors as status codes. No guest, no crun: only what needs neither."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from katapy.agent.service.gate import Gate, code_of, message_of
from katapy.errors import AgentError, NotFound, SpecError, WrongStatus
from katapy.protocol import agent_pb2 as pb
from katapy.protocol import agent_pb2_grpc, names

SECRET = "s" * 32


class Service(agent_pb2_grpc.AgentServicer):
    async def Hello(self, request: Any, context: Any) -> Any:
        return pb.HelloReply(agent_version="here")

    async def StartContainer(self, request: Any, context: Any) -> Any:
        raise NotFound("no such\ncontainer")

    async def Stats(self, request: Any, context: Any) -> Any:
        raise ZeroDivisionError("a defect")

    async def Events(self, request: Any, context: Any) -> None:  # type: ignore[override]  # as grpc.aio takes it
        await context.write(pb.Event())
        raise ExceptionGroup("tasks", [SpecError("malformed", "$.x")])


def serve(folder: Path, test: Callable[[agent_pb2_grpc.AgentStub], Awaitable[None]]) -> list[str]:
    unexpected: list[str] = []

    async def run() -> None:
        gate = Gate(lambda method, error: unexpected.append(f"{method} {error!r}"))
        gate.open(SECRET)
        server = grpc.aio.server(interceptors=[gate])
        agent_pb2_grpc.add_AgentServicer_to_server(Service(), server)  # type: ignore[abstract]  # the rest answers UNIMPLEMENTED
        server.add_insecure_port(f"unix:{folder}/agent.sock")
        await server.start()
        async with grpc.aio.insecure_channel(f"unix:{folder}/agent.sock") as channel:
            await test(agent_pb2_grpc.AgentStub(channel))
        await server.stop(None)

    asyncio.run(run())
    return unexpected


@pytest.mark.parametrize("metadata", [None, ((names.SECRET_METADATA, ""),), ((names.SECRET_METADATA, SECRET + "s"),)])
def test_wrong_secrets(tmp_path: Path, metadata: Any) -> None:
    async def test(stub: Any) -> None:
        calls: list[Awaitable[Any]] = [stub.Hello(pb.HelloRequest(), metadata=metadata)]
        calls += [stub.Events(pb.Empty(), metadata=metadata).read(), stub.Stdio(metadata=metadata).read()]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED

    assert serve(tmp_path, test) == []


def test_errors_become_status_codes(tmp_path: Path) -> None:
    metadata = ((names.SECRET_METADATA, SECRET),)

    async def test(stub: Any) -> None:
        assert (await stub.Hello(pb.HelloRequest(), metadata=metadata)).agent_version == "here"
        expected = [
            (stub.StartContainer(pb.ContainerRequest(), metadata=metadata), "NOT_FOUND", "no such container"),
            (stub.Stats(pb.ContainerRequest(), metadata=metadata), "INTERNAL", "ZeroDivisionError: a defect"),
            (stub.PauseContainer(pb.ContainerRequest(), metadata=metadata), "UNIMPLEMENTED", ""),
        ]
        for call, code, text in expected:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert (raised.value.code().name, text in str(raised.value.details())) == (code, True)
        events = stub.Events(pb.Empty(), metadata=metadata)
        assert await events.read() == pb.Event()
        with pytest.raises(grpc.aio.AioRpcError, match=r"malformed - at `\$\.x`"):
            await events.read()

    assert serve(tmp_path, test) == ["/katapy.agent.v1.Agent/Stats ZeroDivisionError('a defect')"]


def test_codes_and_messages() -> None:
    assert code_of(WrongStatus("x")) is grpc.StatusCode.FAILED_PRECONDITION
    assert code_of(AgentError("x")) is grpc.StatusCode.INTERNAL
    assert message_of(AgentError("a\n  b")) == "a b"
    assert len(message_of(AgentError("x" * 9999))) == 2000
