"""Containers from create to remove, in a real guest with real crun."""

import contextlib
import json
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from contract.agent.guest import Guest, Stub, process, spec

from katapy.protocol import agent_pb2 as pb
from katapy.protocol import names

Code = grpc.StatusCode

pytestmark = pytest.mark.vm


def test_hello_tells_versions_and_phases(guest: Guest) -> None:
    hello = guest.stub.Hello(pb.HelloRequest(protocol_version=names.PROTOCOL_VERSION))
    assert hello.protocol_version == names.PROTOCOL_VERSION
    assert {"cpu", "cpuset", "io", "memory", "pids"} <= set(hello.cgroup_controllers)
    assert [phase.name for phase in hello.phases][-1] == "serving"


def test_a_call_without_the_secret_is_refused(guest: Guest, refused: Any) -> None:
    stranger = Stub(guest.channel, "0" * 32)
    with refused(Code.UNAUTHENTICATED):
        stranger.Hello(pb.HelloRequest())
    with refused(Code.UNAUTHENTICATED):
        list(stranger.Stdio(iter([pb.StdioInput()])))
    with refused(Code.UNAUTHENTICATED):
        list(stranger.Events(pb.Empty()))


def test_output_status_and_order(create: Callable[..., Any]) -> None:
    container = create("sh", "-c", "echo out; echo err >&2; exit 7")
    session = container.session()
    container.start()
    session.finish()
    assert (session.stdout, session.stderr, session.status) == (b"out\n", b"err\n", 7)
    assert container.wait() == 7
    assert container.wait() == 7


def test_a_stream_opened_after_the_end_gets_everything(create: Callable[..., Any]) -> None:
    container = create("sh", "-c", "seq 1 5000; exit 3")
    container.start()
    assert container.wait() == 3
    session = container.session().finish()
    assert session.stdout == b"".join(b"%d\n" % n for n in range(1, 5001))
    assert session.status == 3


def test_stdin_with_end_of_file(create: Callable[..., Any]) -> None:
    container = create("sh", "-c", "wc -c; exit 0")
    session = container.session()
    container.start()
    session.write(b"x" * 300_000)
    session.close_stdin()
    assert session.finish().stdout.split() == [b"300000"]


def test_signals(create: Callable[..., Any], refused: Any) -> None:
    container = create("sh", "-c", "trap 'exit 42' TERM; echo ready; while :; do sleep 0.1; done")
    session = container.session()
    container.start()
    session.read_until(b"ready\n")
    with refused(Code.INVALID_ARGUMENT):
        container.signal(65)
    container.signal(0)
    container.signal(signal.SIGTERM)
    assert container.wait() == 42
    with refused(Code.FAILED_PRECONDITION, "not running"):
        container.signal(signal.SIGTERM)


def test_death_by_signal_is_128_and_the_signal(create: Callable[..., Any]) -> None:
    container = create("sleep", "1000")
    container.start()
    container.signal(signal.SIGKILL)
    assert container.wait() == 137


def test_signal_to_everything(create: Callable[..., Any]) -> None:
    container = create("sh", "-c", "sleep 1000 & sleep 1000 & wait; echo all; exit 5")
    session = container.session()
    container.start()
    commands: list[str] = []
    while commands.count("sleep 1000") < 2:
        commands = [entry.command for entry in container.call("ListProcesses").processes]
    container.signal(signal.SIGKILL, every=True)
    assert session.finish().status == 137


@pytest.mark.parametrize(
    "args,text",
    [
        (["/nosuch"], "No such file or directory"),
        (["nosuch"], "executable file `nosuch` not found in $PATH"),
        (["/etc/passwd"], "peration not permitted"),
    ],
)
def test_crun_says_why_a_program_cannot_run(guest: Guest, refused: Any, args: list[str], text: str) -> None:
    with refused(Code.INTERNAL, text):
        guest.stub.CreateContainer(pb.CreateContainerRequest(container_id="bad", spec_json=spec("bad", *args)))
    # and nothing is left that would be in the way
    guest.stub.CreateContainer(pb.CreateContainerRequest(container_id="bad", spec_json=spec("bad", "true")))
    guest.stub.RemoveContainer(pb.ContainerRequest(container_id="bad"))


def test_malformed_requests(guest: Guest, refused: Any, create: Callable[..., Any]) -> None:
    for bad in ("", "..", "a/b", "x" * 300, "a b"):
        with refused(Code.INVALID_ARGUMENT):
            guest.stub.CreateContainer(pb.CreateContainerRequest(container_id=bad, spec_json=spec("x")))
    for document in (
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b"{}",
        json.dumps({"linux": {"cgroupsPath": "/agent"}}).encode(),
    ):
        with refused(Code.INVALID_ARGUMENT):
            guest.stub.CreateContainer(pb.CreateContainerRequest(container_id="x", spec_json=document))
    with refused(Code.NOT_FOUND):
        guest.stub.StartContainer(pb.ContainerRequest(container_id="nobody"))
    container = create("sleep", "1000")
    with refused(Code.ALREADY_EXISTS):
        guest.stub.CreateContainer(pb.CreateContainerRequest(container_id=container.id, spec_json=spec(container.id)))
    with refused(Code.NOT_FOUND):
        container.wait("no-exec")


def test_wrong_order(create: Callable[..., Any], refused: Any) -> None:
    container = create("sleep", "1000")
    with refused(Code.FAILED_PRECONDITION, "container not paused"):
        container.call("ResumeContainer")
    container.start()
    with refused(Code.FAILED_PRECONDITION, "cannot start an already running container"):
        container.start()
    container.signal(9)
    container.wait()
    with refused(Code.FAILED_PRECONDITION, "cannot start a container that has stopped"):
        container.start()
    with refused(Code.FAILED_PRECONDITION, "cannot exec in a stopped container"):
        container.exec("e", process("true"))


def test_remove_of_a_created_and_of_a_running_container(create: Callable[..., Any], refused: Any) -> None:
    for start in (False, True):
        container = create("sleep", "1000")
        if start:
            container.start()
        container.call("RemoveContainer")
        with refused(Code.NOT_FOUND):
            container.call("RemoveContainer")


def test_pause_and_resume(create: Callable[..., Any], refused: Any) -> None:
    container = create("sh", "-c", "while :; do echo tick; sleep 0.05; done")
    session = container.session()
    container.start()
    session.read_until(b"tick\n")
    container.call("PauseContainer")
    with refused(Code.FAILED_PRECONDITION, "container not running"):
        container.call("PauseContainer")
    before = container.call("Stats").cpu_usage
    assert container.call("Stats").cpu_usage == before
    container.call("ResumeContainer")
    seen = len(session.stdout)
    session.read_until(session.stdout + b"tick\n")
    assert len(session.stdout) > seen


def test_a_paused_container_can_be_removed(create: Callable[..., Any]) -> None:
    container = create("sleep", "1000")
    container.start()
    container.call("PauseContainer")
    container.call("RemoveContainer")


def test_what_a_process_inherits(create: Callable[..., Any]) -> None:
    """Nothing of the agent's: descriptors, ignored signals, OOM protection, umask, its cgroup."""
    script = "ls /proc/self/fd; umask; cat /proc/self/oom_score_adj; grep -h -e SigIgn -e SigBlk /proc/self/status"
    container = create("sh", "-c", f"{script}; cat /proc/self/cgroup")
    container.start()
    init = container.session().finish().stdout.decode().split("\n")
    assert init == [
        "0", "1", "2", "3", "0022", "0", "SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "0::/", "",
    ]  # fmt: skip
    container = create("sleep", "1000")
    container.start()
    container.exec("e", process("sh", "-c", f"{script}; cat /proc/self/cgroup"))
    assert container.session("e").finish().stdout.decode().split("\n") == init


def test_a_create_that_is_given_up_leaves_nothing(guest: Guest, create: Callable[..., Any]) -> None:
    for milliseconds in (5, 30, 60, 90):
        request = pb.CreateContainerRequest(container_id="slow", spec_json=spec("slow", "true"))
        with contextlib.suppress(grpc.RpcError):
            guest.stub.CreateContainer(request, timeout=milliseconds / 1000)
        wait_until_gone(guest, request)


def wait_until_gone(guest: Guest, request: pb.CreateContainerRequest) -> None:
    """The same container can be made, once the agent has unwound the attempt that was given up."""
    deadline = time.monotonic() + 20
    while True:
        try:
            guest.stub.CreateContainer(request)
        except grpc.RpcError as error:
            if error.code() is not Code.ALREADY_EXISTS or time.monotonic() > deadline:
                raise
            with contextlib.suppress(grpc.RpcError):  # it may have been finished after its deadline
                guest.stub.RemoveContainer(pb.ContainerRequest(container_id=request.container_id))
        else:
            guest.stub.RemoveContainer(pb.ContainerRequest(container_id=request.container_id))
            return


def test_many_at_once(guest: Guest, create: Callable[..., Any]) -> None:
    def whole_life(number: int) -> int:
        container = create("sh", "-c", f"echo {number}; exit {number}")
        session = container.session()
        container.start()
        session.finish()
        assert session.stdout == b"%d\n" % number
        return int(session.status or 0)

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(whole_life, range(12))) == list(range(12))


def test_exec_into_a_paused_container_is_refused(create: Callable[..., Any], refused: Any) -> None:
    container = create("sleep", "1000")
    container.start()
    container.call("PauseContainer")
    with refused(Code.FAILED_PRECONDITION, "paused"):
        container.exec("e", process("true"))
    container.call("ResumeContainer")
    container.exec("e", process("true"))
    assert container.wait("e") == 0
