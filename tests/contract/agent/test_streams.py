"""Output when the host reads slowly, goes away or comes back; and the machine when the channel breaks."""

import hashlib
import random
import socket
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from contract.agent.guest import Guest, Session, Stub, process

from katapy.protocol import agent_pb2 as pb

pytestmark = pytest.mark.vm

MIB = 1024 * 1024


def test_every_byte_arrives_at_a_slow_reader(guest: Guest, create: Callable[..., Any]) -> None:
    data = random.Random(1).randbytes(16 * MIB)
    (guest.share / "rootfs/data").write_bytes(data)
    container = create("cat", "/data")
    session = container.session()
    container.start()
    got = hashlib.sha256()
    for number, message in enumerate(session.stream):
        got.update(message.stdout)
        if number % 16 == 0:
            time.sleep(0.2)  # the slow reader
    assert got.digest() == hashlib.sha256(data).digest()
    session.put(None)


def test_a_host_that_does_not_read_stops_the_process_not_the_agent(create: Callable[..., Any]) -> None:
    container = create("sh", "-c", "dd if=/dev/zero bs=64k count=480 2>/dev/null; echo end >&2")
    session = container.session()
    container.start()
    first = next(session.stream)
    before = container.call("Stats").cpu_usage
    deadline = time.monotonic() + 20
    while (now := container.call("Stats").cpu_usage) != before:  # until back pressure has reached it
        assert time.monotonic() < deadline
        before = now
        time.sleep(0.2)
    session.stdout = first.stdout
    session.finish()
    assert (len(session.stdout), session.stderr, session.status) == (30 * MIB, b"end\n", 0)


def test_a_stream_can_be_opened_again(create: Callable[..., Any]) -> None:
    container = create("sh", "-c", "echo one; read x; echo two $x; exit 8")
    first = container.session()
    container.start()
    first.read_until(b"one\n")
    second = container.session()
    with pytest.raises(grpc.RpcError) as raised:
        second.finish()
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    first.stream.cancel()
    third = _attach(container, b"again\n")
    third.finish()
    assert (third.stdout, third.status) == (b"two again\n", 8)


def _attach(container: Any, data: bytes = b"") -> Session:
    """A stream with its first output, once the agent has noticed that the one before it was cancelled."""
    deadline = time.monotonic() + 10
    while True:
        session: Session = container.session()
        session.write(data)
        try:
            session._take(next(session.stream))
            return session
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION or time.monotonic() > deadline:
                raise


def test_nobody_reads_any_more(create: Callable[..., Any]) -> None:
    container = create("sh", "-c", "trap '' PIPE; while echo line; do :; done 2>/dev/null; echo broken >&2; exit 5")
    session = container.session()
    container.start()
    session.read_until(b"line\n")
    session.put(pb.StdioInput(close_output=pb.CloseOutput(stdout=True)))
    session.finish()
    assert (session.stderr, session.status) == (b"broken\n", 5)


def test_input_that_nobody_reads(create: Callable[..., Any]) -> None:
    container = create("sh", "-c", "exec <&-; echo closed; sleep 1; exit 6")
    session = container.session()
    container.start()
    session.read_until(b"closed\n")
    session.write(b"x" * MIB)
    session.close_stdin()
    assert session.finish().status == 6


def test_garbage_on_a_stream(guest: Guest, create: Callable[..., Any], refused: Any) -> None:
    for first in (pb.StdioInput(), pb.StdioInput(stdin=b"x")):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "open"):
            list(guest.stub.Stdio(iter([first])))
    with refused(grpc.StatusCode.NOT_FOUND):
        list(guest.stub.Stdio(iter([pb.StdioInput(open=pb.ProcessRequest(container_id="nobody"))])))


def test_message_over_the_limit(guest: Guest, refused: Any) -> None:
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED):
        guest.stub.UpdateContainer(pb.UpdateContainerRequest(resources_json=bytes(5 * MIB)))
    guest.stub.Hello(pb.HelloRequest())


def test_the_host_end_closes_and_opens(guest: Guest, create: Callable[..., Any]) -> None:
    """Also in the middle of output, with a client that talks nonsense in between."""
    container = create("sh", "-c", "dd if=/dev/zero bs=64k count=320 2>/dev/null; read x; exit 9")
    session = container.session()
    container.start()
    next(session.stream)
    guest.channel.close()
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 5000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100, b""):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
            stranger.connect(str(guest.folder / "agent.sock"))
            stranger.sendall(nonsense)
    for _ in range(5):
        guest.channel, guest.stub = guest.connect()
        guest.stub.Hello(pb.HelloRequest())
        guest.channel.close()
    guest.channel, guest.stub = guest.connect()
    container.stub = guest.stub
    again = _attach(container)
    again.write(b"\n")
    again.finish()
    assert again.status == 9
    assert len(again.stdout) > 15 * MIB


def test_the_agent_is_out_of_a_containers_reach(create: Callable[..., Any]) -> None:
    """With all of root's capabilities, but without the machine's devices."""
    everything = [f"CAP_{name}" for name in ("SYS_ADMIN", "MKNOD", "DAC_OVERRIDE", "NET_ADMIN", "SYS_PTRACE", "KILL")]
    container = create("sleep", "1000")
    container.start()
    script = (
        "for m in 1 2 3; do mknod /tmp/p$m c 247 $m; mknod /tmp/q$m c 248 $m; done; mknod /tmp/vda b 254 0;"
        "for f in /tmp/p* /tmp/q* /tmp/vda; do head -c 1 $f 2>&1; done |"
        "grep -v -e 'not permitted' -e 'No such dev'; echo ok"
    )
    capabilities = {"capabilities": dict.fromkeys(("bounding", "effective", "permitted"), everything)}
    container.exec("e", process("sh", "-c", script) | capabilities)
    assert container.session("e").finish().stdout == b"ok\n"


def test_two_hundred_execs_leave_nothing(guest: Guest, create: Callable[..., Any]) -> None:
    container = create("sleep", "1000")
    container.start()
    for number in range(200):
        container.exec(f"e{number}", process("true"))
    assert container.wait("e199") == 0
    stranger = Stub(guest.channel, guest.secret)
    with pytest.raises(grpc.RpcError) as raised:
        stranger.Wait(pb.ProcessRequest(container_id=container.id, exec_id="e0"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_closed_output_is_told_while_the_process_goes_on(create: Callable[..., Any]) -> None:
    container = create("sh", "-c", "echo last; exec >&-; read x; echo end >&2; exit 4")
    session = container.session()
    container.start()
    while not session.closed:
        session._take(next(session.stream))
    assert (session.stdout, session.closed, session.status) == (b"last\n", [pb.CloseOutput(stdout=True)], None)
    session.write(b"\n")
    assert (session.finish().stderr, session.status) == (b"end\n", 4)
