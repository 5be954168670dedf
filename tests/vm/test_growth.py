"""The memory of a pod's machine grows and shrinks with the limits of its containers. One pod, and one that may not."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from framework.bundle import FOREVER, Spec
from framework.fixtures import BundleMaker, runtime_below
from framework.leaks import Scope
from framework.pod import Pod
from framework.runtime import Container, Runtime
from framework.settings import write_settings
from framework.wait import wait_for

pytestmark = pytest.mark.guest
MIB = 1024 * 1024
BOOT_MIB = 512
GIVEN_BACK_S = 60.0
EAT = "dd if=/dev/zero of=/dev/null bs={}M count=1"
"""Fills that many MiB of memory at once."""


@pytest.fixture(scope="module")
def pod(module_runtime: Runtime, module_bundle: BundleMaker) -> Pod:
    return Pod(module_runtime, module_bundle)


def memory_mib(container: Container) -> int:
    """MemTotal of the guest, which is a little less than it was given."""
    return int(container.sh("awk '/MemTotal/ { print $2 }' /proc/meminfo")) // 1024


def cpus(container: Container) -> int:
    return int(container.sh("grep -c ^processor /proc/cpuinfo"))


def limit(mib: int) -> Spec:
    return {"memory": {"limit": mib * MIB, "swap": mib * MIB}}


def end(container: Container) -> None:
    container.kill()
    container.wait()
    container.delete()


def test_memory_comes_with_a_container_and_goes_with_it(pod: Pod) -> None:
    at_first = memory_mib(pod.sandbox)
    assert 440 < at_first <= BOOT_MIB, "nothing of it is kept for bounce buffers"
    container = pod.start(*FOREVER, resources=limit(520))
    assert memory_mib(pod.sandbox) == at_first + 384  # half of 512, and 520, in steps of 128
    assert at_first < 480
    container.exec("sh", "-c", EAT.format(480)).ok()  # more than the machine had at first
    end(container)
    wait_for("the memory is given back", lambda: memory_mib(pod.sandbox) == at_first, GIVEN_BACK_S)


def test_what_was_given_is_what_can_be_used(pod: Pod) -> None:
    """The file system that the added memory is in says so: in QEMU's descriptors it is told by its size."""
    container = pod.start(*FOREVER, resources=limit(520))
    assert bound_mib(pod.sandbox) == 384
    end(container)
    wait_for("the bound follows", lambda: bound_mib(pod.sandbox) == 0, GIVEN_BACK_S)


def bound_mib(container: Container) -> int:
    """Of the memory that the supervisor has bounded."""
    supervisor = json.loads((container.state_dir / "state.json").read_text())["supervisor_pid"]
    for fd in Path(f"/proc/{supervisor}/fd").iterdir():
        if os.readlink(fd) == "/memory":
            found = os.statvfs(fd)
            return found.f_blocks * found.f_frsize // MIB
    raise AssertionError("no bounded memory")


def test_a_limit_in_the_larger_machine_kills_the_container_alone(pod: Pod) -> None:
    """Without growth the whole guest would be short of memory, and its kernel would choose whom to kill."""
    container = pod.start("sh", "-c", "trap exit TERM; while :; do sleep 1000000 & wait; done", resources=limit(520))
    assert container.exec("sh", "-c", f"exec {EAT.format(700)}").status == 137
    assert container.status == pod.sandbox.status == "running"
    assert pod.sandbox.sh("echo well") == "well"
    end(container)


def test_update_makes_it_grow_and_shrink(pod: Pod) -> None:
    container = pod.start(*FOREVER, resources=limit(64))
    at_first = memory_mib(pod.sandbox)
    container.runtime("update", "--memory", str(700 * MIB), "--memory-swap", str(700 * MIB), container.id).ok()
    assert memory_mib(pod.sandbox) == at_first + 512
    assert container.sh("cat /sys/fs/cgroup/memory.max") == str(700 * MIB)
    container.runtime("update", "--memory", str(64 * MIB), "--memory-swap", str(64 * MIB), container.id).ok()
    wait_for("the memory is given back", lambda: memory_mib(pod.sandbox) == at_first, GIVEN_BACK_S)
    end(container)


def test_a_first_container_gets_its_size_from_the_default_template(runtime: Runtime, bundle: BundleMaker) -> None:
    """A template for each limit would be a cold boot for each."""
    before = templates(runtime)
    container = runtime.start(bundle(resources=limit(1300)))
    grown = memory_mib(container)
    assert 512 + 1024 < grown + 48 <= 512 + 1152
    assert container.warnings == [], "the guest had it all at once"
    assert container.sh("cat /sys/fs/cgroup/memory.max") == str(1300 * MIB)
    container.runtime("update", "--memory", str(64 * MIB), "--memory-swap", str(64 * MIB), container.id).ok()
    wait_for("what it does not need is given back", lambda: memory_mib(container) < grown - 1000, GIVEN_BACK_S)
    assert templates(runtime) - before <= {512}


def templates(runtime: Runtime) -> set[int]:
    """The sizes that there are."""
    status = json.loads(runtime("factory", "status", "--format", "json").ok().out)
    return {template["memory_mib"] for template in status["templates"]}


def test_processors_that_no_machine_has_are_a_warning(pod: Pod) -> None:
    container = pod.start(*FOREVER, resources={"cpu": {"quota": 100_000_000, "period": 100_000}})
    assert cpus(container) == 1
    log = pod.sandbox.log
    assert "the containers' limits ask for 1000 processors" in log
    end(container)


@pytest.fixture
def fixed(runtime_path: Path, scope: Scope, tmp_path: Path) -> Iterator[Runtime]:
    """A runtime whose machines may not grow."""
    limits = {"max_memory_mib": BOOT_MIB}
    config = write_settings(tmp_path / "katapy.yaml", hypervisor=limits, factory={"templates": "off"})
    for runtime in runtime_below(runtime_path, scope):
        runtime.global_args = ("--configuration", str(config))
        yield runtime


def test_a_machine_that_may_not_grow_says_so(fixed: Runtime, bundle: BundleMaker) -> None:
    pod = Pod(fixed, bundle)
    before = memory_mib(pod.sandbox)
    container = pod.start(*FOREVER, resources=limit(2000))
    assert memory_mib(container) == before
    log = pod.sandbox.log
    assert f"ask for 1 processors and 2256 MiB; a machine has 1 processors and {BOOT_MIB} MiB at most" in log
    end(container)
