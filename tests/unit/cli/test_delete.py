"""delete: what it refuses, and that --force works whatever is dead, frozen or half made."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from katapy.cli import delete as delete_module
from katapy.errors import WrongStatus
from katapy.sandbox import hooks, store

Katapy = Callable[..., Any]
Make = Callable[..., store.State]
Supervise = Callable[..., Any]


class FakeCgroup:
    def __init__(self, removed: list[str], id: str) -> None:
        self.removed, self.id = removed, id

    def kill(self) -> None:
        pass

    def remove(self) -> None:
        self.removed.append(self.id)


@pytest.fixture(autouse=True)
def cgroups_removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A unit test makes no cgroups: that is tests/host's affair."""
    from katapy import cgroups

    removed: list[str] = []
    monkeypatch.setattr(cgroups, "reopen", lambda name, directory: FakeCgroup(removed, os.path.basename(directory)))
    return removed


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor that does nothing but live."""
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child
        child.kill()


def supervised_by(child: subprocess.Popen[bytes]) -> dict[str, int]:
    return {"supervisor_pid": child.pid, "supervisor_start": store.start_time(child.pid)}


def gone(root: str) -> bool:
    return not os.path.exists(f"{root}/c1")


def test_a_stopped_container(katapy: Katapy, make: Make, root: str, cgroups_removed: list[str]) -> None:
    make(status="stopped", supervisor_pid=0)
    result = katapy("delete", "c1")
    assert (result.status, result.out, result.err) == (0, "", "")
    assert gone(root)
    assert cgroups_removed == ["c1"]


@pytest.mark.parametrize("status", ["creating", "running", "paused"])
def test_refuses_what_runs(katapy: Katapy, make: Make, root: str, status: str) -> None:
    make(status=status)
    result = katapy("delete", "c1")
    assert result.status == 1
    assert f"cannot delete container c1 that is not stopped: {status}" in result.err
    assert not gone(root)


def test_force_ends_a_create_before_there_is_a_supervisor(
    katapy: Katapy, make: Make, root: str, process: subprocess.Popen[bytes]
) -> None:
    make(status="creating", pid=0, **supervised_by(process))
    assert katapy("start", "c1").err.count("the container is still being created") == 1
    assert json.loads(katapy("state", "c1").out)["status"] == "creating"
    assert katapy("delete", "--force", "c1").status == 0
    assert process.wait(10) == -signal.SIGKILL
    assert gone(root)


def test_a_missing_container(katapy: Katapy, root: str) -> None:
    assert katapy("delete", "c1").status == 1
    result = katapy("delete", "--force", "c1")
    assert (result.status, result.out, result.err) == (0, "", "")


def test_force_removes_what_is_half_made_or_damaged(katapy: Katapy, make: Make, root: str) -> None:
    store.reserve(root, "c1")
    assert katapy("delete", "c1").status == 1
    assert katapy("delete", "-f", "c1").status == 0
    assert gone(root)
    make()
    Path(root, "c1", "state.json").write_text("{")
    assert "delete --force" in katapy("delete", "c1").err
    assert katapy("delete", "-f", "c1").status == 0
    assert gone(root)


@pytest.mark.parametrize("force", [False, True])
def test_a_created_container_is_ended_by_its_supervisor(
    katapy: Katapy, make: Make, supervise: Supervise, root: str, process: subprocess.Popen[bytes], force: bool
) -> None:
    def end(_: dict[str, object]) -> dict[str, object]:
        process.kill()
        return {}

    make(status="created", **supervised_by(process))
    supervisor = supervise(delete=end)
    assert katapy("delete", *(["-f"] if force else []), "c1").err == ""
    assert supervisor.asked == [("delete", {"id": "c1", "force": force})]
    assert gone(root)


def test_a_refusal_of_the_supervisor_holds(
    katapy: Katapy, make: Make, supervise: Supervise, root: str, process: subprocess.Popen[bytes]
) -> None:
    def refuse(_: dict[str, object]) -> dict[str, object]:
        raise WrongStatus("cannot delete container c1 that is not stopped: running")

    make(status="created", **supervised_by(process))
    supervise(delete=refuse)
    assert "not stopped: running" in katapy("delete", "c1").err
    assert not gone(root)
    assert katapy("delete", "-f", "c1").status == 0
    assert process.wait(5) == -signal.SIGKILL


def test_force_kills_a_frozen_supervisor(
    katapy: Katapy, make: Make, root: str, process: subprocess.Popen[bytes]
) -> None:
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    make(**supervised_by(process))
    assert katapy("delete", "-f", "c1").err == ""
    assert process.wait(5) == -signal.SIGKILL
    assert gone(root)


def test_force_kills_a_supervisor_that_does_not_end(
    katapy: Katapy,
    make: Make,
    supervise: Supervise,
    root: str,
    process: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delete_module, "_DEATH_S", 0.05)
    make(status="created", **supervised_by(process))
    supervise(delete=lambda fields: {})
    assert "did not end: try delete --force" in katapy("delete", "c1").err
    assert not gone(root)
    assert katapy("delete", "-f", "c1").status == 0
    assert process.wait(5) == -signal.SIGKILL


def test_a_process_that_merely_has_the_pid_is_left_alone(
    katapy: Katapy, make: Make, root: str, process: subprocess.Popen[bytes]
) -> None:
    make(supervisor_pid=process.pid, supervisor_start=1)
    assert katapy("delete", "-f", "c1").status == 0
    assert process.poll() is None
    assert gone(root)


def test_poststop_hooks_run_all_and_failures_are_warned_of(
    katapy: Katapy, make: Make, root: str, tmp_path: Path
) -> None:
    make(status="stopped", supervisor_pid=0, bundle=str(tmp_path))
    good = {"path": "/bin/sh", "args": ["sh", "-c", "cat > seen"]}
    hooks.keep(f"{root}/c1", {"poststop": [{"path": "/bin/false"}, good]})
    result = katapy("delete", "c1")
    assert result.status == 0
    assert "level=warning" in result.err
    seen = json.loads((tmp_path / "seen").read_text())
    assert (seen["status"], seen["id"], seen["pid"]) == ("stopped", "c1", 0)
    assert gone(root)
