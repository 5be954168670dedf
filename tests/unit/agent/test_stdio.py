"""The Stdio call with real processes and pipes, but no crun: a stand-in for grpc's context records what is sent."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from katapy.agent.launch import Process
from katapy.agent.reaper import Reaper
from katapy.agent.service import stdio
from katapy.agent.service.stdio import END, Output, feed
from katapy.agent.streams import Pipes, Streams
from katapy.protocol import agent_pb2 as pb


class Context:
    """The two methods of grpc.aio's context that are used. `gate` holds messages back like a slow host."""

    def __init__(self, inputs: list[Any]) -> None:
        self.inputs = inputs
        self.sent: list[pb.StdioOutput] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self) -> Any:
        return self.inputs.pop(0) if self.inputs else END

    async def write(self, message: pb.StdioOutput) -> None:
        await self.gate.wait()
        self.sent.append(message)

    def joined(self, name: str) -> bytes:
        return b"".join(getattr(message, name) for message in self.sent if message.WhichOneof("message") == name)

    def kinds(self) -> list[str | None]:
        return [message.WhichOneof("message") for message in self.sent]


def run(script: str, test: Callable[[Process, Context], Awaitable[None]], inputs: tuple[Any, ...] = ()) -> Context:
    async def body() -> Context:
        reaper = Reaper()
        reaper.install(asyncio.get_running_loop())
        pipes = Pipes()
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(pipes.child)]
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", script], {"PATH": "/bin:/usr/bin"}, file_actions=actions)
        process = Process(pid, reaper.watch(pid), pipes.take())
        context = Context(list(inputs))
        async with asyncio.timeout(60):
            await test(process, context)
        process.close()
        return context

    before = len(os.listdir("/proc/self/fd"))
    context = asyncio.run(body())
    assert len(os.listdir("/proc/self/fd")) == before
    return context


async def whole(process: Process, context: Context) -> None:
    output = Output(process, context)
    await asyncio.gather(output.run(), feed(process.streams, output, context))


def test_outputs_and_status() -> None:
    context = run("echo out; echo err >&2; exit 7", whole)
    assert (context.joined("stdout"), context.joined("stderr")) == (b"out\n", b"err\n")
    assert context.kinds().count("exited") == 1
    assert context.sent[-1].exited.status == 7


def test_the_end_of_a_process_and_its_outputs_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "_EXIT_FOLLOWS_S", 60)
    context = run("exit 3", whole)
    assert context.kinds() == ["exited"]
    closed = context.sent[0].also_closed
    assert (closed.stdout, closed.stderr) == (True, True)


def test_an_output_that_ends_before_its_process_is_told_at_once() -> None:
    async def ends_later(process: Process, context: Context) -> None:
        running = asyncio.create_task(Output(process, context).run())
        while not context.sent:
            await asyncio.sleep(0.001)
        process.streams.close_stdin()
        await running

    context = run("exec >&-; read x; exit 3", ends_later)
    assert context.kinds() == ["closed", "exited"]
    assert (context.sent[0].closed.stdout, context.sent[0].closed.stderr) == (True, False)
    assert (context.sent[1].also_closed.stdout, context.sent[1].also_closed.stderr) == (False, True)


def test_input_and_its_end() -> None:
    inputs = (pb.StdioInput(stdin=b"x" * 60_000),) * 20 + (pb.StdioInput(close_stdin=pb.Empty()),)
    assert run("wc -c", whole, inputs).joined("stdout").strip() == b"1200000"


def test_input_that_nobody_reads_is_dropped() -> None:
    inputs = (pb.StdioInput(stdin=b"x" * 60_000),) * 20
    assert run("exec <&-; sleep 0.2; exit 3", whole, inputs).sent[-1].exited.status == 3


def test_exited_waits_for_what_is_in_the_pipe_but_not_for_children() -> None:
    context = run("head -c 500000 /dev/zero; (sleep 0.3; echo late) & exit 4", whole)
    place = context.kinds().index("exited")
    early = sum(len(message.stdout) for message in context.sent[:place])
    assert early == 500_000
    assert context.joined("stdout").endswith(b"late\n")


def test_a_stream_that_breaks_loses_nothing() -> None:
    async def test(process: Process, context: Context) -> None:
        context.gate.clear()
        first = asyncio.create_task(Output(process, context).run())
        await process.wait()
        first.cancel()
        await asyncio.wait([first])
        assert context.sent == []
        context.gate.set()
        await Output(process, context).run()

    context = run("seq 1 3000; exit 5", test)
    assert context.joined("stdout") == b"".join(b"%d\n" % n for n in range(1, 3001))
    assert context.sent[-1].exited.status == 5


def test_a_slow_host_stops_the_process() -> None:
    async def test(process: Process, context: Context) -> None:
        context.gate.clear()
        task = asyncio.create_task(Output(process, context).run())
        done, _ = await asyncio.wait([process.exited], timeout=0.3)
        assert not done
        context.gate.set()
        await task

    assert len(run("head -c 5000000 /dev/zero", test).joined("stdout")) == 5_000_000


def test_closed_output_breaks_the_writer() -> None:
    async def test(process: Process, context: Context) -> None:
        output = Output(process, context)
        task = asyncio.create_task(output.run())
        while not context.sent:
            await asyncio.sleep(0)
        output.drop(stdout=True, stderr=False)
        await task

    context = run("trap '' PIPE; while echo x; do :; done 2>/dev/null; echo broken >&2; exit 6", test)
    assert (context.joined("stderr"), context.sent[-1].exited.status) == (b"broken\n", 6)


def test_resize_of_pipes_is_nothing() -> None:
    reader, writer = os.pipe()
    streams = Streams(writer, reader, None, terminal=False)
    streams.resize(80, 24)
    streams.close()
