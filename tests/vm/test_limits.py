"""Limits of memory, processes and CPU, their change, and what statistics and events tell of them. In one container."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from framework.bundle import Spec
from framework.fixtures import BundleMaker
from framework.runtime import Container, Runtime, closing_popen
from framework.wait import wait_for

MIB = 1024 * 1024
RESOURCES: Spec = {
    "memory": {"limit": 48 * MIB, "swap": 48 * MIB, "reservation": 32 * MIB},
    "pids": {"limit": 20},
    "cpu": {"quota": 50000, "period": 100000, "shares": 512},
}
EAT = "awk 'BEGIN { s = \"x\"; while (1) s = s s }'"
INIT = ("sh", "-c", "while :; do sleep 1000000; done")
"""A shell, which reaps: orphans must not stay and count as processes."""


@pytest.fixture(scope="module")
def limited(module_runtime: Runtime, module_bundle: BundleMaker) -> Container:
    return module_runtime.start(module_bundle(*INIT, resources=RESOURCES))


def cgroup(container: Container, *names: str) -> list[str]:
    return container.sh("cd /sys/fs/cgroup; cat " + " ".join(names)).splitlines()


def stats(container: Container) -> dict[str, Any]:
    line = container.runtime("events", "--stats", container.id).ok().out
    assert line.count("\n") == 1
    event: dict[str, Any] = json.loads(line)
    assert (event["type"], event["id"]) == ("stats", container.id)
    data: dict[str, Any] = event["data"]
    return data


@pytest.mark.guest
def test_the_guests_cgroup_has_them(limited: Container) -> None:
    names = ("memory.max", "memory.swap.max", "memory.low", "pids.max", "cpu.max")
    assert cgroup(limited, *names) == [str(48 * MIB), "0", str(32 * MIB), "20", "50000 100000"]
    assert 10 <= int(cgroup(limited, "cpu.weight")[0]) <= 60


def test_more_processes_than_allowed_are_refused(limited: Container) -> None:
    script = "for i in $(seq 1 30); do sleep 2 & done; wait"
    done = limited.exec("sh", "-c", script)
    assert "fork" in done.err
    wait_for("they have ended", lambda: len(limited("ps").ok().out.splitlines()) == 3)


def test_memory_above_the_limit_kills(limited: Container) -> None:
    done = limited.exec("sh", "-c", EAT)
    assert done.status == 137
    assert limited.status == "running"


def test_statistics_in_runcs_shape(limited: Container) -> None:
    limited.sh("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done")
    data = stats(limited)
    assert data["cpu"]["usage"]["total"] > 0
    assert data["memory"]["usage"]["limit"] == 48 * MIB
    assert 0 < data["memory"]["usage"]["usage"] <= 48 * MIB
    assert data["pids"] == {"current": data["pids"]["current"], "limit": 20}
    assert data["pids"]["current"] >= 1


def test_events_tell_of_oom_kills_and_go_on(limited: Container, tmp_path: Path) -> None:
    argv = ("events", "--interval", "1s", limited.id)
    with (
        (tmp_path / "events").open("wb") as out,
        closing_popen(limited.runtime.popen(*argv, stdout=out, stderr=subprocess.STDOUT)),
    ):
        seen = tmp_path / "events"
        wait_for("the first statistics", lambda: '"stats"' in seen.read_text())
        limited.exec("sh", "-c", EAT)
        wait_for("the kill", lambda: f'{{"type":"oom","id":"{limited.id}"}}' in seen.read_text().replace(" ", ""))


@pytest.mark.guest
def test_update_is_seen_in_the_guests_cgroup(limited: Container) -> None:
    flags = ["--memory", "64m", "--memory-swap", "64m", "--pids-limit", "33", "--cpu-quota", "70000"]
    limited.runtime("update", *flags, "--cpu-share", "2048", limited.id).ok()
    assert cgroup(limited, "memory.max", "pids.max", "cpu.max") == [str(64 * MIB), "33", "70000 100000"]
    assert stats(limited)["memory"]["usage"]["limit"] == 64 * MIB


@pytest.mark.guest
def test_update_from_stdin_and_from_a_file(limited: Container, tmp_path: Path) -> None:
    limited.runtime("update", "--resources", "-", limited.id, input=b'{"pids": {"limit": 44}}').ok()
    assert cgroup(limited, "pids.max") == ["44"]
    file = tmp_path / "resources.json"
    file.write_text(json.dumps({"memory": {"limit": 56 * MIB, "swap": 56 * MIB}}))
    limited.runtime("update", "--resources", file, limited.id).ok()
    assert cgroup(limited, "memory.max", "pids.max") == [str(56 * MIB), "44"]


@pytest.mark.parametrize("flags", [["--memory", "much"], ["--cpu-quota", "x"], ["--pids-limit", "1.5"]])
def test_update_refuses_what_is_no_size(limited: Container, flags: list[str]) -> None:
    done = limited.runtime("update", *flags, limited.id)
    assert done.status == 1
    assert "invalid value" in done.err
    assert flags[0][2:] in done.err


@pytest.mark.guest  # runc's events end only with delete
def test_init_killed_for_memory_is_137_and_an_event(runtime: Runtime, bundle: BundleMaker, tmp_path: Path) -> None:
    made = bundle("sh", "-c", f"{EAT}; exit $?", resources={"memory": RESOURCES["memory"]})
    container = runtime.create(made)
    with (
        (tmp_path / "events").open("wb") as out,
        closing_popen(runtime.popen("events", "--interval", "1s", container.id, stdout=out)) as events,
    ):
        wait_for("events are on", lambda: "stats" in (tmp_path / "events").read_text())
        container.start()
        assert container.wait(60) == 137
        assert (made.path / "oom").exists(), "what conmon tells OOMKilled by"
        assert events.wait(20) == 0
    assert '"oom"' in (tmp_path / "events").read_text()
