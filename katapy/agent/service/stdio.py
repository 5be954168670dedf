"""The Stdio call: one process's descriptors on one side, one stream on the other. Runs in the agent.

Nothing is read before the previous message has gone out, so a host that reads slowly makes the process wait; the pipe
is the only buffer. When the stream ends early the rest stays in the pipe, for a later Stdio call.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import grpc.aio

from katapy.agent.fdio import Waiter, read_now, write_all
from katapy.agent.launch import Process
from katapy.agent.machine import Machine
from katapy.agent.streams import OUTPUT_CHUNK, Streams, pending
from katapy.errors import SpecError, WrongStatus
from katapy.protocol import agent_pb2 as pb

_EXIT_FOLLOWS_S = 0.05
"""From the end of an output to that of its process, if one comes with the other."""
END: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # not in the stub


class StdioCalls:
    machine: Machine

    async def Stdio(self, requests: Any, context: Any) -> None:
        container_id, process = await self._process(await context.read(), context)
        if process.attached:
            raise WrongStatus("the process's stdio is attached already")
        process.attached = True
        output = Output(process, context, lambda: self.machine.oom.kills(container_id) > 0)
        feeding = asyncio.create_task(feed(process.streams, output, context))
        try:
            await output.run()
        finally:
            process.attached = False
            feeding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await feeding

    async def _process(self, first: Any, context: Any) -> tuple[str, Process]:
        """What the stream is about, with its container's id: a process that is there, or one that is started now."""
        kind = None if first is END else first.WhichOneof("message")
        containers = self.machine.containers
        if kind == "open":
            return first.open.container_id, containers.get(first.open.container_id).process(first.open.exec_id)
        if kind != "exec":
            raise SpecError("the first message of a stdio stream must be `open` or `exec`")
        wanted = first.exec
        process = await containers.exec(wanted.container_id, wanted.exec_id, wanted.process_json, wanted.cgroup)
        started = pb.ExecReply(guest_pid=process.pid, crun_seconds=process.crun_seconds)
        await context.write(pb.StdioOutput(started=started))
        return wanted.container_id, process


class Output:
    """Process to host: one pump for each output, messages one at a time, `exited` in its place."""

    def __init__(self, process: Process, context: Any, out_of_memory: Callable[[], bool] = lambda: False) -> None:
        self._process = process
        self._out_of_memory = out_of_memory
        self._streams = process.streams
        self._context = context
        self._turn = asyncio.Lock()
        """Who holds it reads and sends: what is read first is sent first, and grpc takes one message at a time."""
        self._waiters = {fd: Waiter(fd) for fd in self._streams.outputs()}
        self._unwanted: set[int] = set()
        self._ended: set[int] = set()
        self._untold = pb.CloseOutput()
        """Outputs that have ended, and the host does not know it."""
        self._exit_said = asyncio.Event()

    async def run(self) -> None:
        """Returns when everything has been said."""
        async with asyncio.TaskGroup() as tasks:
            for fd in self._waiters:
                tasks.create_task(self._pump(fd))
            tasks.create_task(self._say_exited())

    def drop(self, stdout: bool, stderr: bool) -> None:
        """Nobody on the host reads these any more: the pipes close, and who writes to them gets EPIPE."""
        for fd, unwanted in ((self._streams.stdout, stdout), (self._streams.stderr, stderr)):
            if fd is not None and unwanted and not self._streams.terminal:
                self._end(fd)

    def _end(self, fd: int) -> None:
        self._unwanted.add(fd)
        self._waiters[fd].wake()

    async def _pump(self, fd: int) -> None:
        ended = False
        while not ended:
            async with self._turn:
                sent = 0 if fd in self._unwanted else await self._send(fd, OUTPUT_CHUNK)
                ended = sent == 0
            if sent is None:
                await self._waiters[fd].wait()
        if fd not in self._unwanted | self._ended:
            self._has_ended(fd)
        self._streams.close_output(fd)
        await self._tell_ends()

    def _has_ended(self, fd: int) -> None:
        self._ended.add(fd)
        self._untold.stdout |= fd == self._streams.stdout
        self._untold.stderr |= fd == self._streams.stderr

    async def _tell_ends(self) -> None:
        """The end of an output is mostly the end of its process, and then one message says both."""
        await asyncio.wait((self._process.exited,), timeout=_EXIT_FOLLOWS_S)
        if self._process.exited.done():
            await self._exit_said.wait()
        async with self._turn:
            closed, self._untold = self._untold, pb.CloseOutput()
            if closed.stdout or closed.stderr:
                await self._context.write(pb.StdioOutput(closed=closed))

    async def _send(self, fd: int, size: int) -> int | None:
        """Reads and sends one chunk; the number of bytes, 0 at the end, None if there is nothing now."""
        unsent = self._streams.unsent
        chunk = unsent[fd] if fd in unsent else read_now(fd, size)
        if not chunk:
            return None if chunk is None else 0
        unsent[fd] = chunk
        message = pb.StdioOutput(stderr=chunk) if fd == self._streams.stderr else pb.StdioOutput(stdout=chunk)
        await self._context.write(message)
        del unsent[fd]
        return len(chunk)

    async def _say_exited(self) -> None:
        """After what the process itself has left; its children may hold the other end open for long."""
        status = await self._process.wait()
        async with self._turn:
            for fd in self._streams.outputs():
                await (self._drain_terminal(fd) if self._streams.terminal else self._drain_pipe(fd))
                if fd not in self._unwanted and await self._send(fd, OUTPUT_CHUNK) == 0:
                    self._has_ended(fd)
            closed, self._untold = self._untold, pb.CloseOutput()
            end = pb.WaitReply(status=status, out_of_memory=self._out_of_memory())
            await self._context.write(pb.StdioOutput(exited=end, also_closed=closed))
        self._exit_said.set()

    async def _drain_terminal(self, fd: int) -> None:
        """Sends all there is: the kernel has hung the terminal up, so that nobody can write to it any more."""
        while await self._send(fd, OUTPUT_CHUNK):
            pass
        self._end(fd)

    async def _drain_pipe(self, fd: int) -> None:
        """Sends what is in the pipe now, and no more."""
        due = pending(fd) + len(self._streams.unsent.get(fd, b""))
        while due > 0 and (sent := await self._send(fd, min(due, OUTPUT_CHUNK))):
            due -= sent


async def feed(streams: Streams, output: Output, context: Any) -> None:
    """Host to process, until the host has no more. A process that reads no more loses its input, not its life."""
    while (message := await context.read()) is not END:
        kind = message.WhichOneof("message")
        if kind == "stdin":
            await _write_stdin(streams, message.stdin)
        elif kind == "close_stdin":
            streams.close_stdin()
        elif kind == "resize":
            streams.resize(min(message.resize.columns, 65535), min(message.resize.rows, 65535))
        elif kind == "close_output":
            output.drop(message.close_output.stdout, message.close_output.stderr)


async def _write_stdin(streams: Streams, data: bytes) -> None:
    if streams.stdin is None:
        return
    try:
        await write_all(streams.stdin, data)
    except OSError:  # EPIPE, or EIO of a terminal: nobody reads any more
        streams.close_stdin()
