"""Limits, figures, processes and OOM kills, in a real guest with real crun."""

import contextlib
import itertools
import json
import queue
import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from contract.agent.guest import Guest, Session, process

from katapy.protocol import agent_pb2 as pb

Code = grpc.StatusCode
MIB = 1024 * 1024

pytestmark = pytest.mark.vm

_numbers = itertools.count()


def update(container: Any, resources: dict[str, Any]) -> None:
    container.stub.UpdateContainer(
        pb.UpdateContainerRequest(container_id=container.id, resources_json=json.dumps(resources).encode())
    )


def files(container: Any, *names: str) -> list[str]:
    """The files of the container's cgroup, as seen from inside."""
    exec_id = f"show{next(_numbers)}"
    container.exec(
        exec_id,
        process("sh", "-c", f"mount -t cgroup2 c /tmp && cd /tmp && cat {' '.join(names)}; umount -l /tmp")
        | {"capabilities": {kind: ["CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")}},
    )
    session: Session = container.session(exec_id).finish()
    assert session.status == 0, session.stderr
    return session.stdout.decode().splitlines()


def test_limits_of_create_and_update(create: Callable[..., Any], refused: Any) -> None:
    resources = {
        "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB},
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"},
        "pids": {"limit": 40},
    }
    container = create("sleep", "1000", resources=resources)
    container.start()
    names = ("memory.max", "memory.low", "cpu.max", "cpu.weight", "pids.max", "cpuset.cpus")
    created = files(container, *names)
    assert created == [str(64 * MIB), str(32 * MIB), "50000 100000", created[3], "40", "0"]
    update(container, resources)
    assert files(container, *names) == created
    changed = {
        "memory": {"limit": 80 * MIB, "reservation": 16 * MIB},
        "cpu": {"shares": 2048, "quota": 20_000, "burst": 5_000},
        "pids": {"limit": 50},
        "unified": {"memory.high": str(70 * MIB)},
    }
    update(container, changed)
    after = files(container, "memory.max", "memory.low", "cpu.max", "cpu.max.burst", "pids.max", "memory.high")
    assert after == [str(80 * MIB), str(16 * MIB), "20000 100000", "5000", "50", str(70 * MIB)]
    update(container, {"memory": {"limit": -1}, "cpu": {"quota": -1, "burst": 0}, "pids": {"limit": -1}})
    assert files(container, "memory.max", "cpu.max", "pids.max") == ["max", "max 100000", "max"]
    update(container, {"cpu": {"idle": 1}})
    assert files(container, "cpu.idle") == ["1"]
    with refused(Code.INVALID_ARGUMENT, "$.memory.limit"):
        update(container, {"memory": {"limit": "much"}})
    with refused(Code.INTERNAL, "cpuset.cpus"):
        update(container, {"cpu": {"cpus": "999"}})
    with refused(Code.INVALID_ARGUMENT):
        update(container, {"unified": {"../agent/cgroup.procs": "1"}})


def test_block_io(create: Callable[..., Any]) -> None:
    container = create("sleep", "1000")
    container.start()
    device = {"major": 254, "minor": 0}
    update(
        container,
        {
            "blockIO": {
                "throttleReadBpsDevice": [device | {"rate": 1_000_000}],
                "throttleWriteIOPSDevice": [device | {"rate": 50}],
            }
        },
    )
    assert files(container, "io.max") == ["254:0 rbps=1000000 wbps=max riops=max wiops=50"]


def test_stats(create: Callable[..., Any]) -> None:
    container = create(
        "sh",
        "-c",
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 1000",
        resources={"memory": {"limit": 64 * MIB}},
    )
    container.start()
    while not container.call("Stats").cpu_usage:
        pass
    stats = container.call("Stats")
    assert stats.memory_limit == 64 * MIB
    assert 0 < stats.memory_usage <= stats.memory_limit
    assert stats.swap_limit == 2**64 - 1
    assert (stats.pids_current >= 1, stats.pids_limit) == (True, 0)
    assert stats.memory_stat["anon"] > 0
    assert stats.cpuset_cpus == "0"
    assert stats.cpu_user + stats.cpu_system <= stats.cpu_usage + 1


def test_processes(create: Callable[..., Any]) -> None:
    container = create("sh", "-c", "sleep 1000 & echo up; wait")
    session = container.session()
    container.start()
    session.read_until(b"up\n")
    container.exec("t", process("sleep", "77", terminal=True) | {"user": {"uid": 1000, "gid": 1000}})
    entries = {entry.command: entry for entry in container.call("ListProcesses").processes}
    shell, sleeper = entries["sh -c sleep 1000 & echo up; wait"], entries["sleep 1000"]
    assert sleeper.ppid == shell.pid
    assert (shell.user, shell.uid, shell.tty) == ("root", 0, "?")
    assert (entries["sleep 77"].uid, entries["sleep 77"].tty[:4]) == (1000, "pts/")


def test_oom(guest: Guest, create: Callable[..., Any]) -> None:
    events: queue.SimpleQueue[pb.Event] = queue.SimpleQueue()
    stream = guest.stub.Events(pb.Empty(), timeout=None)
    threading.Thread(target=_collect, args=(stream, events), daemon=True).start()
    resources = {"memory": {"limit": 16 * MIB, "swap": 16 * MIB}}
    container = create("sh", "-c", "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done", resources=resources)
    container.start()
    assert container.wait() == 137
    seen: list[pb.Event] = []
    while not seen or seen[-1].WhichOneof("event") != "exit" or seen[-1].exit.container_id != container.id:
        seen.append(events.get(timeout=90))
    ooms = [event.oom for event in seen if event.WhichOneof("event") == "oom"]
    assert [(oom.container_id, oom.kills >= 1) for oom in ooms] == [(container.id, True)]
    stream.cancel()


def _collect(stream: Any, events: "queue.SimpleQueue[pb.Event]") -> None:
    with contextlib.suppress(grpc.RpcError):  # cancelled
        for event in stream:
            events.put(event)
