"""The zygote without a machine: who is served, and what it says to those who are not. Needs root as engines have it."""

import json
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from framework.besieged import make_plan
from framework.processes import descriptors
from framework.runtime import Runtime
from framework.wait import wait_for
from framework.zygote import Zygote

from katapy.config import Config
from katapy.factory.maker import Obtained
from katapy.supervisor.launch import Task
from katapy.zygote import order, wire
from katapy.zygote.order import Order

ANSWER_S = 10.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "templates"
    (tmp_path / "katapy.yaml").write_text(f"factory: {{dir: {folder}}}\n")
    monkeypatch.setenv("KATAPY_CONFIG", str(tmp_path / "katapy.yaml"))
    return folder


@pytest.fixture
def zygote(runtime: Runtime, folder: Path, tmp_path: Path) -> Iterator[Zygote]:
    zygote = Zygote(runtime, tmp_path / "katapy.yaml")
    yield zygote
    assert zygote.end() == 0, zygote.said()
    assert not (folder / wire.SOCKET).exists()


def ask(folder: Path, request: bytes) -> dict[str, Any]:
    """One answer; nothing if it only closed."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_S)
        connection.connect(str(folder / wire.SOCKET))
        connection.sendall(request)
        text = b""
        while data := connection.recv(65536):
            text += data
    found: dict[str, Any] = json.loads(text or b"{}")
    return found


def raw(header: bytes) -> bytes:
    return len(header).to_bytes(4, "big") + header


def supervise(body: bytes) -> bytes:
    return wire.header("supervise", machine="", body=len(body)) + body


def an_order(root: Path) -> bytes:
    return order.encode(Order(Task(make_plan(), Config(), str(root), (), 0.0, Obtained("")), ()))


NONSENSE = [
    (raw(b"{[}]"), "not JSON"),
    (raw(b"{}"), "not an object"),
    (raw(b'{"katapy": "0.0 /", "op": "status"}'), "another version"),
    (b"\x7f\xff\xff\xff", "too long"),
    (b"\0\0\0\0", "too long"),
    (b"\0\0", "did not arrive in time"),
    (wire.header("dance"), "no such request: dance"),
    (wire.header("supervise"), "needs a body"),
    (supervise(b"nonsense"), "the order is malformed"),
    (supervise(b""), "no 0 bytes"),
    (wire.header("supervise", machine="", body=2**40), "no 1099511627776 bytes"),
]


def test_nonsense_is_refused(folder: Path, zygote: Zygote) -> None:
    for request, reason in NONSENSE:
        assert reason in ask(folder, request)["refused"]
    assert zygote.status()["running"]


def test_a_supervisor_that_can_t_begin_says_so(folder: Path, zygote: Zygote, tmp_path: Path) -> None:
    """Its sandbox's folder is not there."""
    assert ask(folder, supervise(an_order(tmp_path / "nowhere")))["refused"] == "no such file or directory"


def test_who_hangs_up_leaves_nothing(folder: Path, zygote: Zygote, tmp_path: Path) -> None:
    """A caller that goes away before it has handed its listener over: the supervisor ends, unasked."""
    (tmp_path / "root" / make_plan().id).mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_S)
        connection.connect(str(folder / wire.SOCKET))
        connection.sendall(supervise(an_order(tmp_path / "root")))
        pid = json.loads(connection.recv(65536))["pid"]
        assert str(folder / wire.SOCKET) not in descriptors(pid)
    wait_for("the supervisor has ended", lambda: not os.path.exists(f"/proc/{pid}"))


def test_many_that_say_nothing_are_forgotten(folder: Path, zygote: Zygote) -> None:
    silent = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    for connection in silent:
        connection.connect(str(folder / wire.SOCKET))
    wait_for("it serves again", lambda: zygote.status()["running"] or None)
    for connection in silent:
        connection.close()


def polled(pid: int) -> int:
    """How many descriptors a process waits for by epoll."""
    return sum(file.read_text().count("tfd:") for file in Path(f"/proc/{pid}/fdinfo").iterdir())


def test_without_a_descriptor_for_a_caller_it_rests_and_serves_him_later(folder: Path, zygote: Zygote) -> None:
    """The kernel would tell it of the same caller again and again."""
    usual = polled(zygote.pid)
    soft, hard = resource.prlimit(zygote.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(zygote.pid, resource.RLIMIT_NOFILE, (0, hard))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_S)
        connection.connect(str(folder / wire.SOCKET))
        connection.sendall(wire.header("status"))
        wait_for("it does not look for callers", lambda: polled(zygote.pid) == usual - 1)
        resource.prlimit(zygote.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert b'"pid"' in connection.recv(65536)
    wait_for("it looks for callers, and not at that one any more", lambda: polled(zygote.pid) == usual)


def test_none_is_kept_warm_without_memory_to_spare(runtime: Runtime, folder: Path, tmp_path: Path) -> None:
    configuration = tmp_path / "katapy.yaml"
    configuration.write_text(f"factory: {{dir: {folder}, pool: 2}}\nhypervisor: {{memory_mib: 100000000}}\n")
    zygote = Zygote(runtime, configuration)
    pool = zygote.status()["pool"]
    assert zygote.end() == 0
    assert "memory to spare" in pool["trouble"]
    assert (pool["machines"], pool["wanted"]) == ([], 2)


def test_there_is_one_for_a_folder(runtime: Runtime, folder: Path, zygote: Zygote) -> None:
    result = runtime("factory", "serve")
    assert result.status == 1
    assert f"another zygote serves {folder}" in result.err
    zygote.end(signal.SIGKILL)
    assert (folder / wire.SOCKET).exists()
    zygote.start()
    assert zygote.status()["running"]


def test_a_folder_that_others_may_enter_is_refused(runtime: Runtime, folder: Path) -> None:
    folder.mkdir(0o755)
    result = runtime("factory", "serve")
    assert result.status == 1
    assert "is not root's alone" in result.err
