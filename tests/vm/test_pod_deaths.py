"""Whatever dies in a pod: every state is right afterwards, delete works, neighbours live on where they can."""

import os
import signal
from pathlib import Path

import pytest
from framework import holdings, processes
from framework.bundle import FOREVER, at_the_guests
from framework.fixtures import BundleMaker
from framework.pod import Pod
from framework.runtime import Container, Runtime, owner_of
from framework.wait import wait_for

pytestmark = pytest.mark.guest
END_S = 60.0
MIB = 1024 * 1024
EAT = "awk 'BEGIN { s = \"x\"; while (1) s = s s }'"
WARM_UP, RESTARTS = 3, 7


def all_have_ended(pod: Pod, members: list[Container]) -> None:
    for container in (pod.sandbox, *members):
        assert container.wait(END_S) == 137
        assert container.status == "stopped"
        assert container.state()["pid"] == 0
        assert container("kill").err.endswith('msg="container not running"\n')
    for container in (*members, pod.sandbox):
        container.delete()
    assert pod.runtime.ids() == []


@pytest.mark.parametrize("who", ["supervisor", "qemu-system"])
def test_what_all_depend_on_is_killed(runtime: Runtime, bundle: BundleMaker, who: str) -> None:
    pod = Pod(runtime, bundle)
    members = [pod.start(*FOREVER), pod.create(*FOREVER)]
    os.kill(owner_of(pod.sandbox, who), signal.SIGKILL)
    all_have_ended(pod, members)


@pytest.fixture(scope="module")
def pod(module_runtime: Runtime, module_bundle: BundleMaker) -> Pod:
    """Its sandbox container sees all of the machine's processes and mounts."""
    return Pod(module_runtime, module_bundle, edit=at_the_guests)


@pytest.fixture(scope="module")
def neighbour(pod: Pod) -> Container:
    return pod.start(*FOREVER)


def test_a_members_stand_in_is_killed(pod: Pod, neighbour: Container) -> None:
    """The container goes with the pid that stands for it, and no other does."""
    victim = pod.start("sh", "-c", "sleep 4242 & sleep 4343")
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait_status("stopped", END_S)
    wait_for("its processes to end", lambda: "sleep 4242" not in pod.sandbox.sh("ps -o args"), END_S)
    assert neighbour.exec("true").status == 0
    victim.delete()


def held_namespaces(pod: Pod) -> int:
    """Mount namespaces that the agent holds."""
    return pod.sandbox.sh("ls -l /proc/1/fd").count(" -> mnt:[")


def test_a_member_ends_while_its_files_are_on_their_way(pod: Pod, neighbour: Container) -> None:
    """The mounts of a container stay until the share's server has answered all it was asked for: else the kernel stops
    (6.12, "VFS: Busy inodes after unmount of virtiofs"), and with it the whole pod. Seen on a busy host."""
    before = held_namespaces(pod)
    made = pod.bundle("sh", "-c", "while :; do cat /much > /dev/null; done")
    with open(made.rootfs / "much", "wb") as file:
        file.truncate(512 * MIB)
    victim = pod.runtime.start(made)
    assert held_namespaces(pod) == before + 1
    servers = [p.pid for p in processes.descendants(os.getpid()) if "virtiofsd" in p.command and pod.id in p.command]
    for server in servers:  # none with 9p
        os.kill(server, signal.SIGSTOP)
    try:
        wait_for("it waits for its file", lambda: "D" in victim("ps", "-o", "state").ok().out.split() or not servers)
        os.kill(victim.pid, signal.SIGKILL)
        assert victim.wait(END_S) == 137
    finally:
        for server in servers:
            os.kill(server, signal.SIGCONT)
    wait_for("its mounts are let go", lambda: held_namespaces(pod) == before, END_S)
    assert neighbour.exec("true").status == 0
    victim.delete()


def test_out_of_memory_kills_one_and_is_told(pod: Pod, neighbour: Container) -> None:
    limits = {"memory": {"limit": 32 * MIB, "swap": 32 * MIB}}
    victim = pod.start("sh", "-c", f"{EAT}; exit $?", resources=limits)
    assert victim.wait(END_S) == 137
    assert (victim.bundle.path / "oom").exists()
    assert not (neighbour.bundle.path / "oom").exists()
    assert neighbour.exec("true").status == 0
    victim.delete()


def test_a_shortage_that_init_survives_is_told_as_well(pod: Pod) -> None:
    limits = {"memory": {"limit": 32 * MIB, "swap": 32 * MIB}}
    container = pod.start("sh", "-c", f"{EAT}; sleep 1000000", resources=limits)
    wait_for("the word of it", (container.bundle.path / "oom").exists, END_S)
    assert container.status == "running"
    container.delete("--force")


def test_the_file_goes_nowhere_else(pod: Pod, tmp_path: Path) -> None:
    """A link in its place is not followed."""
    limits = {"memory": {"limit": 32 * MIB, "swap": 32 * MIB}}
    victim = pod.create("sh", "-c", f"{EAT}; exit $?", resources=limits)
    (victim.bundle.path / "oom").symlink_to(tmp_path / "elsewhere")
    victim.start()
    assert victim.wait(END_S) == 137
    assert not (tmp_path / "elsewhere").exists()
    victim.delete()


def test_crash_loops_leak_nothing(pod: Pod, neighbour: Container) -> None:
    """A few restarts of a container with limits; tests/perf/restarts.py makes hundreds, and tells of memory too."""
    restart = pod.crash_loop()
    for _ in range(WARM_UP):
        restart()
    before = holdings.take(pod)
    for _ in range(RESTARTS):
        restart()
    holdings.await_no_more(pod, before, END_S)
