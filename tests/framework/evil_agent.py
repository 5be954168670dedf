"""An agent that lies: a gRPC server that speaks katapy.agent.v1 and does what a guest taken over could do.

A process of its own: `evil_agent.py SOCKET ATTACK [METHOD]` prints a line once it listens. It uses the generated
messages and nothing else of katapy. Answers may be messages or raw bytes, which no honest protobuf would produce.
"""

import asyncio
import contextlib
import os
import random
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from katapy.protocol import agent_pb2 as pb
from katapy.protocol import names

SERVICE = "katapy.agent.v1.Agent"
MIB = 1024 * 1024
STREAMS = {"Events": "unary_stream", "Stdio": "stream_stream"}
EMPTY_METHODS = ("CreateSandbox", "DestroySandbox", "ReseedRng", "SetClock", "StartContainer", "PauseContainer")
EMPTY_METHODS += ("ResumeContainer", "UpdateContainer", "RemoveContainer")
ANSWERS = ("Hello", "CreateContainer", "Stats", "ListProcesses", "Exec", "Signal", "Wait")
METHODS = (*EMPTY_METHODS, *ANSWERS, *STREAMS)
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

    async def Signal(self, request: bytes, context: Any) -> Answer:
        if pb.SignalRequest.FromString(request).signal == 9:
            self.killed.set()
        return pb.Empty()

    async def Stdio(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Answer]:
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
        for nothing in ():
            yield nothing


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


# -- floods ------------------------------------------------------------------------------------------------------------


class FloodsStdout(HonestAgent):
    async def output(self, context: Any) -> AsyncIterator[Answer]:
        while not self.killed.is_set():
            yield pb.StdioOutput(stdout=b"x" * 65536)
        yield exited(137)


class FloodsBig(HonestAgent):
    """As large as a message may be."""

    async def output(self, context: Any) -> AsyncIterator[Answer]:
        while not self.killed.is_set():
            yield pb.StdioOutput(stdout=b"x" * (names.MAX_MESSAGE - 64))
        yield exited(137)


class FloodsNothing(HonestAgent):
    """Messages that say nothing, as fast as they go."""

    async def output(self, context: Any) -> AsyncIterator[Answer]:
        while not self.killed.is_set():
            yield b""
        yield exited(137)


class FloodsEvents(HonestAgent):
    async def Events(self, request: bytes, context: Any) -> AsyncIterator[Answer]:
        while True:
            yield pb.Event(oom=pb.OomEvent(container_id="c1", kills=2**64 - 1))
            yield pb.Event()


class NeverReads(HonestAgent):
    """stdin stays in the channel."""

    async def _drain(self, requests: AsyncIterator[bytes]) -> None:
        await asyncio.Event().wait()


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


class Bomb(HonestAgent):
    """256 MiB in a quarter of one."""

    compression = grpc.Compression.Gzip

    async def answer(self, method: str, request: bytes, context: Any) -> Answer:
        if method in ("Stats", "ListProcesses"):
            return pb.StatsReply(cpuset_cpus="0" * (256 * MIB))
        return await super().answer(method, request, context)


class BombOutput(HonestAgent):
    compression = grpc.Compression.Gzip

    async def Stdio(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Answer]:
        yield pb.StdioOutput(stdout=b"x" * (256 * MIB))
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
        odd = [
            pb.Process(**numbers, cpu_seconds=seconds, user=NASTY_TEXT, tty="t" * 100_000, command=NASTY_TEXT * 1000)
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


# -- not even HTTP/2 ---------------------------------------------------------------------------------------------------

_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"pingpong"
_ONE_SETTING = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00" + b"\x00\x03\xff\xff\xff\xff"
_FIELDS = b"\x00\x01a\x01b" * 3276 + b"\x00\x01a\x00"
_HEADERS_OPEN = b"\x00\x40\x00\x01\x00\x00\x00\x00\x01" + _FIELDS
_CONTINUATION = b"\x00\x40\x00\x09\x00\x00\x00\x00\x01" + _FIELDS

RAW: dict[str, tuple[bytes, bytes]] = {
    # name -> what is sent first, and what is then sent for ever (nothing: the connection closes)
    "raw-closes": (b"", b""),
    "raw-garbage": (random.Random(2).randbytes(MIB), b""),
    "raw-http1": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno\n", b""),
    "raw-endless": (b"", random.Random(3).randbytes(65536)),
    "raw-zeros": (b"", b"\x00" * 65536),
    "raw-frame-of-16-mib": (_SETTINGS + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", b"A" * 65536),
    "raw-pings": (_SETTINGS, _PING * 4096),
    "raw-settings": (_SETTINGS, _ONE_SETTING * 4096),
    "raw-headers-without-end": (_SETTINGS + _HEADERS_OPEN, _CONTINUATION),
}
RAW_SILENT = "raw-silent"


async def serve_raw(path: str, attack: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if attack == RAW_SILENT:
                await asyncio.Event().wait()
            first, then = RAW[attack]
            writer.write(first)
            await writer.drain()
            while then:
                writer.write(then)
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(handle, path)
    await _announce(server.wait_closed)


# -- the server --------------------------------------------------------------------------------------------------------

ATTACKS: dict[str, type[HonestAgent]] = {
    cls.__name__: cls for cls in list(globals().values()) if isinstance(cls, type) and issubclass(cls, HonestAgent)
}


def _bytes(answer: Answer) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def _handler(agent: HonestAgent, method: str) -> Any:
    if method in STREAMS:
        make = getattr(grpc, f"{STREAMS[method]}_rpc_method_handler")
        return make(getattr(agent, method), None, _bytes)

    async def call(request: bytes, context: Any) -> Answer:
        return await agent.answer(method, request, context)

    return grpc.unary_unary_rpc_method_handler(call, None, _bytes)


async def serve(path: str, agent: HonestAgent) -> None:
    options = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
    options = (*options, ("grpc.max_metadata_size", 64 * MIB))
    agent.server = grpc.aio.server(options=options, compression=agent.compression)
    handlers = {method: _handler(agent, method) for method in METHODS}
    agent.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    agent.server.add_insecure_port(f"unix:{path}")
    await agent.server.start()
    await _announce(asyncio.Event().wait)


async def _announce(then: Callable[[], Any]) -> None:
    print("ready", flush=True)
    await then()


async def main(path: str, attack: str, method: str = "") -> None:
    if attack.startswith("raw-"):
        await serve_raw(path, attack)
        return
    agent = ATTACKS[attack]()
    if isinstance(agent, OneMethod):
        agent.method = method
    await serve(path, agent)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
