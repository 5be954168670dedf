"""Processes beside init, and terminals, in a real guest with real crun."""

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from contract.agent.guest import Guest, process

from katapy.protocol import agent_pb2 as pb

Code = grpc.StatusCode

pytestmark = pytest.mark.vm


def test_a_stream_may_begin_with_what_it_starts(guest: Guest, create: Callable[..., Any]) -> None:
    container = create("sleep", "1000")
    container.start()
    wanted = pb.ExecRequest(
        container_id=container.id, exec_id="s", process_json=json.dumps(process("sh", "-c", "echo hi; exit 4")).encode()
    )
    messages = list(guest.stub.Stdio(iter([pb.StdioInput(exec=wanted)]), timeout=60))
    assert messages[0].started.guest_pid > 1
    assert messages[0].started.crun_seconds > 0
    assert b"".join(m.stdout for m in messages if m.WhichOneof("message") == "stdout") == b"hi\n"
    (exited,) = [m for m in messages if m.WhichOneof("message") == "exited"]
    assert exited.exited.status == 4
    closed = [exited.also_closed, *(m.closed for m in messages if m.WhichOneof("message") == "closed")]
    assert (sum(c.stdout for c in closed), sum(c.stderr for c in closed)) == (1, 1)


def test_a_stream_whose_process_cannot_start_ends_with_the_reason(
    guest: Guest, create: Callable[..., Any], refused: Callable[..., Any]
) -> None:
    container = create("sleep", "1000")
    container.start()
    wanted = pb.ExecRequest(
        container_id=container.id, exec_id="s", process_json=json.dumps(process("/nosuch")).encode()
    )
    with refused(grpc.StatusCode.INTERNAL, "/nosuch"):
        list(guest.stub.Stdio(iter([pb.StdioInput(exec=wanted)]), timeout=60))


def test_exec_output_and_status(create: Callable[..., Any]) -> None:
    container = create("sleep", "1000")
    container.start()
    container.exec("e1", process("sh", "-c", "cat; echo done >&2; exit 9"))
    session = container.session("e1")
    session.write(b"hello")
    session.close_stdin()
    session.finish()
    assert (session.stdout, session.stderr, session.status) == (b"hello", b"done\n", 9)
    assert container.wait("e1") == 9


def test_exec_that_ends_at_once_is_still_told(create: Callable[..., Any]) -> None:
    container = create("sleep", "1000")
    container.start()
    for number in range(10):
        container.exec(f"e{number}", process("sh", "-c", f"exit {number}"))
    assert [container.wait(f"e{number}") for number in range(10)] == list(range(10))


def test_exec_failures(create: Callable[..., Any], refused: Any) -> None:
    container = create("sleep", "1000")
    container.start()
    with refused(Code.INTERNAL, "executable file `nosuch` not found in $PATH"):
        container.exec("bad", process("nosuch"))
    container.exec("bad", process("sleep", "1000"))
    with refused(Code.ALREADY_EXISTS):
        container.exec("bad", process("true"))
    container.signal(9, "bad")
    assert container.wait("bad") == 137


def test_exec_ends_with_its_container(create: Callable[..., Any]) -> None:
    container = create("sleep", "1000")
    container.start()
    container.exec("e1", process("sleep", "1000"))
    session = container.session("e1")
    container.signal(9)
    assert session.finish().status == 137


def test_exited_comes_before_the_output_of_children_that_stay(create: Callable[..., Any]) -> None:
    container = create("sleep", "1000")
    container.start()
    container.exec("e1", process("sh", "-c", "echo early; (sleep 2; echo late) & exit 4"))
    session = container.session("e1")
    for message in session.stream:
        session._take(message)
        if session.status is not None:
            break
    assert (session.stdout, session.status) == (b"early\n", 4)
    assert session.finish().stdout == b"early\nlate\n"


def test_terminal_of_init(create: Callable[..., Any]) -> None:
    container = create(
        "sh", "-c", "stty size; read line; stty size; echo got $line; tty; exit 3",
        terminal=True, process={"consoleSize": {"width": 77, "height": 33}},
    )  # fmt: skip
    session = container.session()
    container.start()
    session.read_until(b"33 77")
    session.put(pb.StdioInput(resize=pb.WindowSize(columns=100, rows=40)))
    session.write(b"word\n")
    session.finish()
    assert b"40 100" in session.stdout
    assert b"got word" in session.stdout
    assert b"/dev/" in session.stdout
    assert (session.stderr, session.status) == (b"", 3)


def test_terminal_of_exec_and_all_of_its_output(create: Callable[..., Any]) -> None:
    container = create("sleep", "1000")
    container.start()
    container.exec("t", process("sh", "-c", "seq 1 20000; exit 6", terminal=True))
    session = container.session("t").finish()
    assert session.stdout == b"".join(b"%d\r\n" % n for n in range(1, 20001))
    assert session.status == 6


def test_terminal_whose_background_job_stays(create: Callable[..., Any]) -> None:
    container = create("sleep", "1000")
    container.start()
    container.exec("t", process("sh", "-c", "trap '' HUP; sleep 1000 & echo started; exit 2", terminal=True))
    session = container.session("t").finish()
    assert (session.stdout, session.status) == (b"started\r\n", 2)


def test_exec_in_a_sub_cgroup(create: Callable[..., Any], refused: Any) -> None:
    container = create("sleep", "1000")
    container.start()
    with refused(Code.INTERNAL, "No such file or directory"):
        container.exec("e0", process("true"), cgroup="sub")
    with refused(Code.INVALID_ARGUMENT):
        container.exec("e0", process("true"), cgroup="../agent")
    capabilities = {"capabilities": {kind: ["CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")}}
    script = "mount -t cgroup2 c /tmp && mkdir -p /tmp/sub/sub && umount /tmp"
    container.exec("make", process("sh", "-c", script) | capabilities)
    assert container.wait("make") == 0
    container.exec("e1", process("cat", "/proc/self/cgroup"), cgroup="sub")
    assert container.session("e1").finish().stdout == b"0::/sub\n"
    container.exec("e2", process("sleep", "1000"), cgroup="sub/sub")
    container.call("RemoveContainer")
