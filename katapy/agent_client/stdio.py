"""One process's stdin, stdout and stderr: host descriptors on one side, the agent's Stdio stream on the other.

Supervisor only. The descriptors are the caller's own (pipes, files, terminals). They can't be made non-blocking: the
flag belongs to the open file, and so to the caller too. Reads and writes that may block run in threads; the stream
waits for them, so that a slow reader slows the process in the guest down and memory stays bounded.
"""

import asyncio
import contextlib
import fcntl
import os
import select
import struct
import termios
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc.aio

from katapy.agent_client.client import AgentClient
from katapy.agent_client.newlines import PlainNewlines
from katapy.agent_client.replies import believed
from katapy.errors import AgentError, HypervisorError, KatapyError
from katapy.protocol import agent_pb2 as pb
from katapy.protocol import names

MAX_STATUS = 255


@dataclass(slots=True)
class Descriptors:
    """Owned by the pump from its start, each its own number. None: nothing to read, or closed by the process."""

    stdin: int | None
    stdout: int | None
    stderr: int | None
    terminal: bool = False

    def close_output(self, stdout: bool, stderr: bool) -> None:
        """End of file for those who read there. Idempotent."""
        if stdout and self.stdout is not None:
            os.close(self.stdout)
            self.stdout = None
        if stderr and self.stderr is not None:
            os.close(self.stderr)
            self.stderr = None

    def close(self) -> None:
        self.close_output(True, True)
        if self.stdin is not None:
            os.close(self.stdin)


class StdioPump:
    """Pumps until the process has ended and its output is at its end.

    `first` names the process: a ProcessRequest, or an ExecRequest, which starts it. `started` is the future of what the
    agent says to that, `exited` that of the exit status.
    """

    def __init__(self, agent: AgentClient, first: pb.ProcessRequest | pb.ExecRequest, fds: Descriptors) -> None:
        self._first = first
        self._fds = fds
        self._loop = asyncio.get_running_loop()
        self.started: asyncio.Future[pb.ExecReply] = self._loop.create_future()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self.out_of_memory = False
        """Whether the kernel has killed processes of the container for memory: known with `exited`."""
        self.received = 0
        """Bytes of output that have come."""
        self._call: Any = agent.stdio()
        self._write_lock = asyncio.Lock()
        self._opened = False
        self._reading = False
        self._broken: set[int] = set()
        plain = fds.terminal and fds.stdout is not None and not os.isatty(fds.stdout)
        self._plain = PlainNewlines() if plain else None
        self._stop_r, self._stop_w = os.pipe2(os.O_CLOEXEC)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="stdout")
        self._write: Future[None] = Future()  # the last one
        self._write.set_result(None)
        self._task = self._loop.create_task(self._run())

    @property
    def held_up(self) -> bool:
        """Whether a reader of the output is waited for."""
        return not self._write.done()

    @property
    def terminal(self) -> bool:
        return self._fds.terminal

    async def resize(self, columns: int, rows: int) -> None:
        await self._send(pb.StdioInput(resize=pb.WindowSize(columns=columns, rows=rows)))

    async def resize_to_terminal(self) -> None:
        """To the size that the host's terminal has now."""
        if self._fds.terminal and self._fds.stdout is not None:
            size = terminal_size(self._fds.stdout)
            if size is not None:
                await self.resize(*size)

    async def finished(self) -> None:
        """Returns when all output has been written and the descriptors are closed.

        After `cancel`, those of a write that its reader holds up are closed when it returns.
        """
        await asyncio.wait([self._task])

    def cancel(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._send(None)
            if isinstance(self._first, pb.ProcessRequest):
                self._begin(pb.ExecReply())
            async for message in self._call:
                await self._receive(believed(message))
            self._fail(HypervisorError("the guest closed the stream before the process ended"))
        except grpc.aio.AioRpcError as e:
            self._fail(AgentClient.translate(e))
        except AgentError as e:
            self._fail(e)
        finally:
            self._fail(HypervisorError("the stream was closed"))
            with contextlib.suppress(BrokenPipeError):  # the reader has ended
                os.write(self._stop_w, b"x")
            self._call.cancel()
            self._writer.shutdown(wait=False)
            # A thread may still write: its descriptor's number must not become another's meanwhile.
            self._write.add_done_callback(lambda _: self._fds.close())
            os.close(self._stop_w)
            if not self._reading:
                os.close(self._stop_r)

    def _start_reader(self) -> None:
        """Hands stdin and the reading end of the stop pipe to a thread, which closes both."""
        if self._fds.stdin is None:
            os.close(self._stop_r)
            return
        fd, self._fds.stdin = self._fds.stdin, None
        threading.Thread(target=self._read_stdin, args=(fd,), daemon=True, name="stdin").start()

    def _begin(self, reply: pb.ExecReply) -> None:
        """There is a process: not before does it get the caller's input."""
        if not self.started.done():
            self.started.set_result(reply)
            self._reading = True
            self._start_reader()

    def _fail(self, reason: KatapyError) -> None:
        for future in (self.started, self.exited):
            if not future.done():
                future.set_exception(reason)
                future.exception()  # whoever waits still gets it; nobody waiting is no error

    async def _send(self, message: pb.StdioInput | None) -> None:
        """One writer at a time is grpc's rule, and `open` goes first, whoever writes first.

        A stream that has ended takes no more: what it ended with is found by whoever reads it.
        """
        async with self._write_lock:
            with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
                if not self._opened:
                    self._opened = True
                    await self._call.write(self._opening())
                if message is not None:
                    await self._call.write(message)

    def _opening(self) -> pb.StdioInput:
        first = self._first
        return pb.StdioInput(exec=first) if isinstance(first, pb.ExecRequest) else pb.StdioInput(open=first)

    async def _receive(self, message: pb.StdioOutput) -> None:
        kind = message.WhichOneof("message")
        if kind in ("stdout", "stderr") and not self.started.done():
            raise AgentError("the agent in the guest sent output of a process that it has not started")
        if kind == "stdout":
            await self._output(self._fds.stdout, self._plain.feed(message.stdout) if self._plain else message.stdout)
        elif kind == "stderr":
            await self._output(self._fds.stderr, message.stderr)
        elif kind == "closed":
            await self._close_output(message.closed)
        elif kind == "started":
            self._begin(message.started)
        elif kind == "exited" and not self.exited.done():
            self._begin(pb.ExecReply())  # an honest agent has said so before
            await self._close_output(message.also_closed)
            self.out_of_memory = message.exited.out_of_memory
            self.exited.set_result(min(message.exited.status, MAX_STATUS))

    async def _close_output(self, ended: pb.CloseOutput) -> None:
        if ended.stdout and self._plain:
            await self._output(self._fds.stdout, self._plain.rest())
        self._fds.close_output(ended.stdout, ended.stderr)

    async def _output(self, fd: int | None, data: bytes) -> None:
        """Writes all; a reader that is gone is remembered, the rest is dropped and the guest's end is closed."""
        self.received += len(data)
        if fd is None or fd in self._broken:
            return
        try:
            self._write = self._writer.submit(write_all, fd, data)
            await asyncio.wrap_future(self._write)
        except OSError:
            self._broken.add(fd)
            await self._send(
                pb.StdioInput(close_output=pb.CloseOutput(stdout=fd == self._fds.stdout, stderr=fd == self._fds.stderr))
            )

    def _read_stdin(self, fd: int) -> None:
        """Thread.

        Ends at end of file, at an error, or when the pump stops; closes `fd` and its end of the stop pipe.
        """
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.register(self._stop_r, select.POLLIN)
        try:
            while True:
                ready = dict(poll.poll())
                if self._stop_r in ready:
                    return
                data = os.read(fd, names.STDIO_CHUNK)
                if not data:
                    break
                self._send_from_thread(pb.StdioInput(stdin=data))
        except OSError:
            pass  # a terminal that hung up (EIO) is the end of input
        finally:
            os.close(fd)
            os.close(self._stop_r)
        self._send_from_thread(pb.StdioInput(close_stdin=pb.Empty()))

    def _send_from_thread(self, message: pb.StdioInput) -> None:
        sent: Future[None] = asyncio.run_coroutine_threadsafe(self._send(message), self._loop)
        with contextlib.suppress(CancelledError):  # the stream has ended; the stop pipe tells so
            sent.result()


def write_all(fd: int, data: bytes) -> None:
    """Writes everything, also where the caller made the descriptor non-blocking. Raises OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            poll = select.poll()  # select() takes no descriptors from 1024 on
            poll.register(fd, select.POLLOUT)
            poll.poll()


def terminal_size(fd: int) -> tuple[int, int] | None:
    """Columns and rows, None if they are not set or `fd` is no terminal."""
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return None
    return (columns, rows) if rows and columns else None
