"""The host's cgroups on v2, made by katapy and by systemd: who is in them, what they count, whose limits hold."""

import contextlib
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from framework import processes
from framework.bundle import FOREVER
from framework.fixtures import BundleMaker
from framework.leaks import CGROUPS, Scope
from framework.podman import make_cgroup, remove_cgroup
from framework.runtime import CALL_S, Container, Runtime, closing_popen, owner_of
from framework.wait import wait_for

pytestmark = pytest.mark.long
MIB = 1024 * 1024
BUSY = "while :; do :; done"


class BySystemd(Runtime):
    """The same state root and ids, with systemd's driver for `create`: no other verb is told."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime.path, runtime.root, runtime.token, ["--systemd-cgroup"])
        self.new_id = runtime.new_id  # type: ignore[method-assign]


@pytest.fixture(scope="module", params=["cgroupfs", "systemd"])
def placed(request: pytest.FixtureRequest, module_runtime: Runtime, module_bundle: BundleMaker) -> Container:
    """A container that sleeps, in a cgroup of either driver; systemd's is named after it, because the spec has none."""
    if request.param == "cgroupfs":
        return module_runtime.start(module_bundle())
    made = BySystemd(module_runtime).start(module_bundle(cgroup=""))
    return Container(module_runtime, made.id, made.bundle)


def cgroup_of(pid: int) -> str:
    """Its path below the top of cgroup v2."""
    (line,) = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return line.removeprefix("0::")


def folder(container: Container) -> Path:
    return CGROUPS / cgroup_of(container.pid).strip("/")


def figure(path: Path, name: str = "") -> int:
    """The one number in a cgroup's file, or that of a name."""
    for line in path.read_text().splitlines():
        *names, number = line.split()
        if names == ([name] if name else []):
            return int(number)
    raise AssertionError(f"{path} has no {name or 'number'}")


def unit_property(unit: str, name: str) -> str:
    shown = subprocess.run(["systemctl", "show", "-P", name, unit], capture_output=True, text=True, check=True)
    return shown.stdout.strip()


def test_all_of_a_machine_is_in_the_cgroup_that_the_spec_names(placed: Container) -> None:
    expected = placed.bundle.spec["linux"].get("cgroupsPath") or f"/system.slice/katapy-{placed.id}.scope"
    pids = [placed.pid, owner_of(placed, "qemu"), owner_of(placed, "supervisor")]
    assert [cgroup_of(pid) for pid in pids] == [expected] * len(pids)
    assert "virtiofsd" in commands(folder(placed))


def test_its_counters_move(placed: Container) -> None:
    cgroup = folder(placed)
    assert figure(cgroup / "memory.current") > 50 * MIB, "the machine's memory is counted"
    assert figure(cgroup / "pids.current") >= 4
    before = figure(cgroup / "cpu.stat", "usage_usec")
    with until_told(placed, f"{BUSY} & read line; kill $!"):
        wait_for(
            "a second of what the guest does is counted",
            lambda: figure(cgroup / "cpu.stat", "usage_usec") > before + 1_000_000,
        )


def test_verbs_work_and_exec_joins(placed: Container) -> None:
    with until_told(placed, "read line"):
        wait_for("the exec's stand-in, a shell, is in the cgroup", lambda: "\nsh -c" in f"\n{commands(folder(placed))}")
        placed("pause").ok()
        assert placed.status == "paused"
        placed("resume").ok()
        placed.runtime("update", "--pids-limit", "77", placed.id).ok()
        assert placed.sh("cat /sys/fs/cgroup/pids.max") == "77"
        assert FOREVER[-1] in placed("ps").ok().out
    assert placed.status == "running"


@contextlib.contextmanager
def until_told(container: Container, script: str) -> Iterator[None]:
    """A script in the container that ends with its input, at the end of the block. Whoever kills `exec` leaves it."""
    argv = ("exec", container.id, "sh", "-c", script)
    with closing_popen(container.runtime.popen(*argv, stdin=subprocess.PIPE)) as process:
        yield
        process.communicate(timeout=CALL_S)


def commands(cgroup: Path) -> str:
    found = (processes.find(int(pid)) for pid in (cgroup / "cgroup.procs").read_text().split())
    return "\n".join(process.command for process in found if process is not None)


@pytest.fixture
def parent(scope: Scope) -> Iterator[Path]:
    """A cgroup as the kubelet makes one for a pod."""
    name = f"{scope.token}-{secrets.token_hex(3)}"
    make_cgroup(name)
    yield CGROUPS / name
    remove_cgroup(name)


def test_limits_of_the_pod_s_cgroup_hold_for_the_machine(runtime: Runtime, bundle: BundleMaker, parent: Path) -> None:
    """Whatever the guest does: it gets no more of the processor, and dies of too much memory, which is noticed."""
    container = runtime.start(bundle(cgroup=f"/{parent.name}/c"))
    (parent / "cpu.max").write_text("50000 100000")
    throttled = figure(parent / "cpu.stat", "nr_throttled")
    with closing_popen(runtime.popen("exec", container.id, "sh", "-c", BUSY)):
        wait_for("the machine is throttled", lambda: figure(parent / "cpu.stat", "nr_throttled") > throttled + 5)
    (parent / "cpu.max").write_text("max")
    (parent / "memory.max").write_text(str(figure(parent / "memory.current") + 8 * MIB))
    with closing_popen(runtime.popen("exec", container.id, "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M")):
        container.wait_status("stopped")
    assert figure(parent / "memory.events", "oom_kill") >= 1
    assert container.wait() != 0
    container.delete()


def test_limits_of_the_spec_hold_in_the_guest(runtime: Runtime, bundle: BundleMaker) -> None:
    limits = {"memory": {"limit": 48 * MIB, "swap": 48 * MIB}, "pids": {"limit": 20}}
    container = runtime.start(bundle("sh", "-c", "while :; do sleep 1000000; done", resources=limits))
    assert container.exec("sh", "-c", "awk 'BEGIN { s = \"x\"; while (1) s = s s }'").status == 137
    assert "fork" in container.exec("sh", "-c", "for i in $(seq 1 30); do sleep 2 & done; wait").err
    assert container.status == "running"
    container.delete("--force")


def kill_supervisor(container: Container) -> None:
    os.kill(owner_of(container, "supervisor"), signal.SIGKILL)


def kill_qemu(container: Container) -> None:
    os.kill(owner_of(container, "qemu"), signal.SIGKILL)


def stop_the_scope(container: Container) -> None:
    """As an administrator does, or a host that shuts down."""
    subprocess.run(["systemctl", "kill", "--signal=KILL", cgroup_of(container.pid).rpartition("/")[2]], check=True)


@pytest.mark.parametrize("end", [kill_supervisor, kill_qemu, stop_the_scope])
def test_nothing_is_left_of_a_scope_whose_container_came_to_a_bad_end(
    runtime: Runtime, bundle: BundleMaker, scope: Scope, end: Callable[[Container], None]
) -> None:
    container = BySystemd(runtime).start(bundle(cgroup=f"system.slice:{scope.token}:end"))
    end(container)
    container.wait_status("stopped")
    container.delete("--force")
    assert unit_property(f"{scope.token}-end.scope", "LoadState") == "not-found"


def test_a_create_that_is_killed_leaves_a_scope_that_delete_takes_away(
    runtime: Runtime, bundle: BundleMaker, scope: Scope
) -> None:
    made = bundle(cgroup=f"system.slice:{scope.token}:half")
    id = runtime.new_id()
    cgroup = CGROUPS / f"system.slice/{scope.token}-half.scope"
    with closing_popen(BySystemd(runtime).popen("create", "--bundle", made.path, id)):
        wait_for("QEMU is in the scope", lambda: cgroup.exists() and "qemu" in commands(cgroup), 60)
    runtime("delete", "--force", id).ok()
    assert unit_property(f"{scope.token}-half.scope", "LoadState") == "not-found"
    again = BySystemd(runtime).create(made)
    assert folder(again) == cgroup
