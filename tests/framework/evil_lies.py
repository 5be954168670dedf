"""What an evil agent can do, a class for each attack. Part of the evil agent's process (evil_agent.py).

Answers may be messages or raw bytes, which no honest protobuf would produce.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from katapy.protocol import agent_pb2 as pb
from katapy.protocol import names

MIB = 1024 * 1024
NASTY_TEXT = "first\nsecond\r\x1b[2J\x1b]0;title\x07\x00\u202etxt.exe\u2028end"
INVALID_UTF8 = b"\xff\xfe\xc3\x28"

Answer = Message | bytes


class HonestAgent:
    """Says what a real agent says of a container that sleeps until it is killed. Attacks override its methods."""

    compression: grpc.Compression | None = None

    def __init__(self) -> None:
        self.killed = asyncio.Event()
        self.server: grpc.aio.Server

    async def answer(self, method: str, request: bytes, context: Any) -> Answer:
        """A unary call. `request` is not parsed: nobody asks."""
        own = getattr(self, method, None)
        return await own(request, context) if own is not None else pb.Empty()

    async def Hello(self, request: bytes, context: Any) -> Answer:
        return pb.HelloReply(protocol_version=names.PROTOCOL_VERSION, agent_version="evil")

    async def FindDisk(self, request: bytes, context: Any) -> Answer:
        return pb.FindDiskReply(name="vdb", major=254, minor=16)

    async def Exec(self, request: bytes, context: Any) -> Answer:
        """As the first answer of a Stdio stream: nobody makes a call of its own for it."""
        return pb.ExecReply(guest_pid=7)

    async def Signal(self, request: bytes, context: Any) -> Answer:
        if pb.SignalRequest.FromString(request).signal == 9:
            self.killed.set()
        return pb.Empty()

    async def Stdio(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Answer]:
        first = pb.StdioInput.FromString(await anext(requests))
        if first.WhichOneof("message") == "exec":
            started = await self.answer("Exec", first.exec.SerializeToString(), context)
            yield pb.StdioOutput(started=started) if isinstance(started, pb.ExecReply) else started
        drain = asyncio.create_task(self._drain(requests))
        async for message in self.output(context):
            yield message
        drain.cancel()

    async def _drain(self, requests: AsyncIterator[bytes]) -> None:
        async for _ in requests:
            pass

    async def output(self, context: Any) -> AsyncIterator[Answer]:
        await self.killed.wait()
        yield exited(137)

    async def Events(self, request: bytes, context: Any) -> AsyncIterator[Answer]:
        await asyncio.Event().wait()
        yield pb.Event()

    async def Dial(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Answer]:
        """Nobody listens."""
        await context.abort(grpc.StatusCode.NOT_FOUND, "nobody listens")
        yield b""


def exited(status: int) -> pb.StdioOutput:
    return pb.StdioOutput(exited=pb.WaitReply(status=status))


# -- lies about how a process ends -------------------------------------------------------------------------------------


class Exits(HonestAgent):
    """At once, with these statuses, one after the other."""

    statuses: tuple[int, ...] = (0,)

    async def output(self, context: Any) -> AsyncIterator[Answer]:
        for status in self.statuses:
            yield exited(status)


class ExitsHuge(Exits):
    statuses = (2**31,)


class ExitsHuger(Exits):
    statuses = (2**32 - 1,)


class ExitsTwice(Exits):
    statuses = (3, 5, 7)


class ExitsWithoutAWord(HonestAgent):
    async def output(self, context: Any) -> AsyncIterator[Answer]:
        nothing: tuple[Answer, ...] = ()
        for answer in nothing:
            yield answer


class ExitsOfStrangers(HonestAgent):
    """Events about containers that do not exist, and about ours, which goes on."""

    async def Events(self, request: bytes, context: Any) -> AsyncIterator[Answer]:
        for container_id in ("", "..", "../../etc/passwd", "c1", "c2", "\x00"):
            for exec_id in ("", "exec1", "exec999"):
                yield pb.Event(exit=pb.ExitEvent(container_id=container_id, exec_id=exec_id, status=2**32 - 1))
            yield pb.Event(oom=pb.OomEvent(container_id=container_id, kills=2**64 - 1))
        await asyncio.Event().wait()


class TalksAfterExit(HonestAgent):
    async def output(self, context: Any) -> AsyncIterator[Answer]:
        yield exited(4)
        while True:
            yield pb.StdioOutput(stdout=b"z" * 65536)


class TalksBeforeStart(HonestAgent):
    """Output of an exec, before the exec is said to run."""

    async def Exec(self, request: bytes, context: Any) -> Answer:
        return pb.StdioOutput(stdout=b"z" * 65536)


class Immortal(HonestAgent):
    """Says yes to SIGKILL, and goes on."""

    async def output(self, context: Any) -> AsyncIterator[Answer]:
        await asyncio.Event().wait()
        yield exited(0)


class ImmortalAndLoud(Immortal):
    async def output(self, context: Any) -> AsyncIterator[Answer]:
        while True:
            yield pb.StdioOutput(stdout=b"x" * 65536)


class RefusesSignals(HonestAgent):
    """As if its process had ended."""

    async def Signal(self, request: bytes, context: Any) -> Answer:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "process not running")
        return b""


class RefusesSignalsOfTheDead(RefusesSignals):
    """It has, which the host hears afterwards."""

    async def Signal(self, request: bytes, context: Any) -> Answer:
        asyncio.get_running_loop().call_later(0.2, self.killed.set)
        return await super().Signal(request, context)


class RemovesSlowly(HonestAgent):
    """And has removed whatever has the name by then."""

    async def RemoveContainer(self, request: bytes, context: Any) -> Answer:
        await asyncio.sleep(1.0)
        return pb.Empty()


# -- messages that are too much ----------------------------------------------------------------------------------------


class Oversized(HonestAgent):
    """Answers one MiB above the limit, whatever is asked, but to Hello."""

    async def answer(self, method: str, request: bytes, context: Any) -> Answer:
        if method in ("Stats", "ListProcesses"):
            return pb.StatsReply(cpuset_cpus="0" * (names.MAX_MESSAGE + MIB))
        return await super().answer(method, request, context)


class OversizedOutput(HonestAgent):
    async def output(self, context: Any) -> AsyncIterator[Answer]:
        yield pb.StdioOutput(stdout=b"x" * (names.MAX_MESSAGE + MIB))
        await asyncio.Event().wait()


BOMB = 64 * MIB
"""More than the host may grow by. It is compressed for each call, and whoever waits for it has a deadline."""


class Bomb(HonestAgent):
    """A thousandth of its size on the way."""

    compression = grpc.Compression.Gzip

    def __init__(self) -> None:
        super().__init__()
        self._answer = pb.StatsReply(cpuset_cpus="0" * BOMB).SerializeToString()

    async def answer(self, method: str, request: bytes, context: Any) -> Answer:
        if method in ("Stats", "ListProcesses"):
            return self._answer
        return await super().answer(method, request, context)


class BombOutput(HonestAgent):
    compression = grpc.Compression.Gzip

    async def Stdio(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Answer]:
        yield pb.StdioOutput(stdout=b"x" * BOMB)
        await asyncio.Event().wait()


class MillionsOfProcesses(HonestAgent):
    """Two bytes each: an empty Process."""

    async def ListProcesses(self, request: bytes, context: Any) -> Answer:
        return b"\x0a\x00" * (names.MAX_MESSAGE // 2 - 8)


class MillionsOfDevices(HonestAgent):
    """An empty BlockIo (field 16), and an entry of memory_stat under another key each."""

    async def Stats(self, request: bytes, context: Any) -> Answer:
        devices = b"\x82\x01\x00" * (MIB // 2)
        entries = b"".join(b"\x6a\x06\x0a\x04%04x" % number for number in range(65536))
        return devices + entries


class AbsurdStatistics(HonestAgent):
    """The greatest numbers, numbers that are none, and strings that are no lists."""

    cpuset = "0-4294967295," * 40000

    async def Stats(self, request: bytes, context: Any) -> Answer:
        most, inf = 2**64 - 1, float("inf")
        pressure = pb.Pressure(avg10=float("nan"), avg60=inf, avg300=-inf, total=most)
        psi = pb.Psi(some=pressure, full=pressure)
        reply = pb.StatsReply(cpu_psi=psi, memory_psi=psi, io_psi=psi, cpuset_cpus=self.cpuset, cpuset_mems="9" * 5000)
        for field in reply.DESCRIPTOR.fields:
            if field.cpp_type == field.CPPTYPE_UINT64 and not field.is_repeated:
                setattr(reply, field.name, most)
        for key in (NASTY_TEXT, "k" * 100_000, ""):
            reply.memory_stat[key] = most
            reply.hugetlb[key].usage = most
        reply.blkio.add(major=2**32 - 1, minor=2**32 - 1, read_bytes=most)
        return reply

    async def ListProcesses(self, request: bytes, context: Any) -> Answer:
        numbers: dict[str, Any] = {"pid": -1, "ppid": -(2**31), "uid": 2**32 - 1, "start_unix_seconds": 2**64 - 1}
        numbers |= {"virtual_bytes": 2**64 - 1, "resident_bytes": 2**64 - 1, "name": NASTY_TEXT, "state": "RS" * 1000}
        odd = [
            pb.Process(
                **numbers,
                cpu_seconds=seconds,
                resident_share=seconds,
                user=NASTY_TEXT,
                tty="t" * 100_000,
                command=NASTY_TEXT * 1000,
            )
            for seconds in (float("nan"), float("inf"), -1.0, 1e308)
        ]
        return pb.ListProcessesReply(processes=odd)


class AbsurdHello(HonestAgent):
    async def Hello(self, request: bytes, context: Any) -> Answer:
        return pb.HelloReply(
            protocol_version=names.PROTOCOL_VERSION,
            agent_version=NASTY_TEXT,
            kernel_release="k" * MIB,
            memory_bytes=2**64 - 1,
            cgroup_controllers=[NASTY_TEXT] * 1000,
            phases=[pb.Phase(name=NASTY_TEXT, uptime_seconds=float("nan"))] * 1000,
        )


# -- answers that are none ---------------------------------------------------------------------------------------------


class OneMethod(HonestAgent):
    """Honest but for the method that the command line names."""

    method = ""

    async def answer(self, method: str, request: bytes, context: Any) -> Answer:
        if method == self.method:
            return await self.attack(context)
        return await super().answer(method, request, context)

    async def Stdio(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Answer]:
        if self.method == "Stdio":
            yield await self.attack(context)
        async for message in super().Stdio(requests, context):
            yield message

    async def Events(self, request: bytes, context: Any) -> AsyncIterator[Answer]:
        if self.method == "Events":
            yield await self.attack(context)
        async for message in super().Events(request, context):
            yield message

    async def attack(self, context: Any) -> Answer:
        raise NotImplementedError


class Silent(OneMethod):
    async def attack(self, context: Any) -> Answer:
        await asyncio.Event().wait()
        return b""


class Dies(OneMethod):
    async def attack(self, context: Any) -> Answer:
        os._exit(0)


class HangsUp(OneMethod):
    """The connection ends, the machine lives."""

    async def attack(self, context: Any) -> Answer:
        asyncio.get_running_loop().create_task(self.server.stop(0))
        await asyncio.Event().wait()
        return b""


class NotProtobuf(OneMethod):
    async def attack(self, context: Any) -> Answer:
        return random.Random(1).randbytes(4096)


class NotText(OneMethod):
    """Strings that are not UTF-8: fields 1 to 8 of whatever type it is."""

    async def attack(self, context: Any) -> Answer:
        strings = [bytes([number << 3 | 2, len(INVALID_UTF8)]) + INVALID_UTF8 for number in range(1, 9)]
        return b"".join(strings)


class Nested(OneMethod):
    """Ten thousand messages within each other."""

    async def attack(self, context: Any) -> Answer:
        message = b""
        for _ in range(10_000):
            message = b"\x0a" + _varint(len(message)) + message
        return message


class RefusesNastily(OneMethod):
    text = NASTY_TEXT * 20

    async def attack(self, context: Any) -> Answer:
        await context.abort(grpc.StatusCode.INTERNAL, self.text)
        return b""


class RefusesAtLength(RefusesNastily):
    text = "x\n" * (MIB // 2)


class Cancels(OneMethod):
    """The status that grpc uses for its own cancelled calls."""

    async def attack(self, context: Any) -> Answer:
        await context.abort(grpc.StatusCode.CANCELLED, "")
        return b""


class FloodsMetadata(OneMethod):
    async def attack(self, context: Any) -> Answer:
        await context.send_initial_metadata([(f"key{n}", "v" * 1000) for n in range(1000)])
        return b""


class OtherVersion(HonestAgent):
    async def Hello(self, request: bytes, context: Any) -> Answer:
        return pb.HelloReply(protocol_version=2**32 - 1)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
