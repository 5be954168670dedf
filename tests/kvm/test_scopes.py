"""Scopes of systemd, without machines: made, joined, ended, their names used again. Machines: test_cgroups.py."""

import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from framework.leaks import Scope
from framework.processes import sleeper
from framework.runtime import closing_popen
from framework.wait import wait_for

from katapy import cgroups
from katapy.errors import HostError

Make = Callable[[str], cgroups.Cgroup]


def unit_property(unit: str, name: str) -> str:
    shown = subprocess.run(["systemctl", "show", "-P", name, unit], capture_output=True, text=True, check=True)
    return shown.stdout.strip()


@pytest.fixture
def slice_name(scope: Scope) -> Iterator[str]:
    """A slice below another one; systemd keeps what has become empty until it is told."""
    stem = scope.token + secrets.token_hex(3)
    yield f"{stem}-pod.slice"
    subprocess.run(["systemctl", "stop", f"{stem}-pod.slice", f"{stem}.slice"], check=True)


@pytest.fixture
def make(slice_name: str) -> Iterator[Make]:
    """Scopes of that slice, by their names; what a test leaves is taken away."""
    made = []

    def create(name: str) -> cgroups.Cgroup:
        made.append(cgroups.open_cgroup(f"{slice_name}:libpod:{name}", name, systemd=True))
        made[-1].create()
        return made[-1]

    yield create
    for cgroup in made:
        cgroup.kill()
        cgroup.remove()


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def members(cgroup: cgroups.Cgroup) -> list[str]:
    (procs,) = cgroup.procs_files()
    return Path(procs).read_text().split()


def test_a_scope_is_what_runc_makes(make: Make, slice_name: str) -> None:
    cgroup = make("abc")
    pid = sleeper(cgroup)
    cgroup.let_go()
    assert members(cgroup) == [str(pid)]
    top = slice_name.partition("-")[0]
    assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::/{top}.slice/{slice_name}/libpod-abc.scope\n"
    shown = {name: unit_property("libpod-abc.scope", name) for name in ("Slice", "Delegate", "DefaultDependencies")}
    assert shown == {"Slice": slice_name, "Delegate": "yes", "DefaultDependencies": "no"}
    end(pid)


def test_its_name_can_be_used_again_at_once(make: Make) -> None:
    for _ in range(3):
        cgroup = make("again")
        pid = sleeper(cgroup)
        cgroup.let_go()
        end(pid)
        cgroup.remove()
        assert unit_property("libpod-again.scope", "LoadState") == "not-found"
        assert not Path(cgroup.paths()[0]).exists()


def test_another_process_kills_and_removes_it_by_its_name(make: Make) -> None:
    made = make("other")
    pid = sleeper(made)
    made.let_go()
    found = cgroups.reopen(made.name, "other")
    assert found.procs_files() == made.procs_files()
    found.kill()
    os.waitpid(pid, 0)
    found.remove()
    found.remove()
    assert unit_property("libpod-other.scope", "LoadState") == "not-found"


def test_nobody_joined(make: Make) -> None:
    """It ends by itself then; to remove it is no error."""
    cgroup = make("empty")
    cgroup.let_go()
    wait_for("systemd has forgotten it", lambda: unit_property("libpod-empty.scope", "LoadState") == "not-found")


def test_somebody_else_s_is_refused_and_lives_on(make: Make) -> None:
    unit = "libpod-taken.scope"
    with closing_popen(subprocess.Popen(["systemd-run", "--quiet", "--scope", f"--unit={unit}", "sleep", "1000"])):
        wait_for("it is active", lambda: unit_property(unit, "ActiveState") == "active")
        with pytest.raises(HostError, match=f"systemd has a unit {unit} already"):
            make("taken")
        cgroups.reopen("system.slice:libpod:taken", "taken").remove()
        assert unit_property(unit, "ActiveState") == "active"


def test_a_name_that_systemd_refuses(make: Make) -> None:
    with pytest.raises(HostError, match=r"systemd refuses the unit libpod-b%d\.scope: Invalid unit name"):
        make("b%d")
