"""Several containers in one machine: they come and go, share what the spec says, and end with their sandbox."""

import json
import os
from pathlib import Path

import pytest
from framework import processes
from framework.bundle import FOREVER
from framework.fixtures import BundleMaker
from framework.pod import PAUSE, Pod
from framework.runtime import Container, Runtime, owner_of
from framework.wait import wait_for

pytestmark = pytest.mark.guest
END_S = 60.0


@pytest.fixture(scope="module")
def pod(module_runtime: Runtime, module_bundle: BundleMaker) -> Pod:
    return Pod(module_runtime, module_bundle)


@pytest.fixture(scope="module")
def member(pod: Pod) -> Container:
    return pod.start(*FOREVER)


def test_a_member_is_in_the_sandboxs_machine(pod: Pod, member: Container) -> None:
    machines = [p.command for p in processes.descendants(os.getpid()) if "qemu-system" in p.command.split(" ", 1)[0]]
    assert len([command for command in machines if pod.id in command]) == 1
    assert not [command for command in machines if member.id in command]
    assert member.sh("cat /proc/sys/kernel/random/boot_id") == pod.sandbox.sh("cat /proc/sys/kernel/random/boot_id")
    assert member.state()["status"] == "running"
    assert member.pid != pod.sandbox.pid


def test_network_ipc_and_uts_are_shared_and_pid_is_not(pod: Pod, member: Container) -> None:
    def of(container: Container, kind: str) -> str:
        return container.sh(f"readlink /proc/self/ns/{kind}")

    for kind in ("net", "ipc", "uts"):
        assert of(member, kind) == of(pod.sandbox, kind), kind
    for kind in ("pid", "mnt", "cgroup"):
        assert of(member, kind) != of(pod.sandbox, kind), kind
    assert member.sh("ps -o pid,args").splitlines()[1].split()[0] == "1"


def test_a_listener_of_one_member_is_reached_by_another(pod: Pod, member: Container) -> None:
    server = pod.start("sh", "-c", "echo hello from afar | nc -l -p 4711")
    wait_for("an answer", lambda: member.exec("nc", "127.0.0.1", "4711").out == "hello from afar\n", END_S)
    assert server.wait(END_S) == 0
    server.delete()


def test_the_stand_in_is_in_the_pods_namespaces_of_the_host(pod: Pod, member: Container) -> None:
    for kind in ("net", "ipc", "uts"):
        assert os.readlink(f"/proc/{member.pid}/ns/{kind}") == os.readlink(f"/proc/{pod.sandbox.pid}/ns/{kind}")


def test_own_namespaces_where_asked(pod: Pod) -> None:
    """One that joins none belongs to no pod: annotations alone lead into none (tests/unit/sandbox/test_pods.py)."""
    loner = pod.start(*FOREVER, shared=("uts",))
    assert loner.sh("readlink /proc/self/ns/uts") == pod.sandbox.sh("readlink /proc/self/ns/uts")
    for kind in ("net", "ipc", "pid"):
        assert loner.sh(f"readlink /proc/self/ns/{kind}") != pod.sandbox.sh(f"readlink /proc/self/ns/{kind}"), kind
    loner.delete("--force")


def test_a_shared_pid_namespace_shows_the_others(pod: Pod, member: Container) -> None:
    """And with a member end its own processes only."""
    sharer = pod.start("sh", "-c", "sleep 4242 & exec sleep 4343", shared=("network", "ipc", "uts", "pid"))
    assert sharer.sh("readlink /proc/self/ns/pid") == pod.sandbox.sh("readlink /proc/self/ns/pid")
    assert "sleep 4242" in pod.sandbox.sh("ps -o args")
    assert sharer("ps").ok().out.count("sleep") == 2
    sharer.kill()
    assert sharer.wait(END_S) == 137
    wait_for("its child to go, too", lambda: "sleep 4242" not in pod.sandbox.sh("ps -o args"), END_S)
    sharer.delete()
    assert pod.sandbox.status == "running"


def test_status_and_output_of_what_ends_by_itself(pod: Pod) -> None:
    short = pod.start("sh", "-c", "echo out; echo err >&2; exit 7")
    assert short.wait(END_S) == 7
    assert (short.stdout.read_text(), short.stderr.read_text()) == ("out\n", "err\n")
    assert short.state()["status"] == "stopped"
    assert short("kill").err.endswith('msg="container not running"\n')
    short.delete()
    assert short.id not in pod.runtime.ids()


def test_what_it_wrote_is_on_the_host_when_it_ends(pod: Pod) -> None:
    writer = pod.start("sh", "-c", "echo kept > /kept")
    assert writer.wait(END_S) == 0
    assert (writer.bundle.rootfs / "kept").read_text() == "kept\n"
    writer.delete()


def test_containers_come_again_after_the_last_has_gone(runtime: Runtime, bundle: BundleMaker) -> None:
    pod = Pod(runtime, bundle)
    for turn in range(3):
        container = pod.start("sh", "-c", f"exit {turn}")
        assert container.wait(END_S) == turn
        container.delete()
    assert pod.sandbox.status == "running"


def test_exec_kill_pause_and_statistics_are_the_members_own(pod: Pod, member: Container) -> None:
    other = pod.start("sh", "-c", "trap 'exit 9' TERM; while :; do sleep 1000000 & wait; done")
    other.exec("sh", "-c", "echo mine > /only-here")
    assert member.exec("cat", "/only-here").status != 0
    other("pause").ok()
    assert (other.status, member.status) == ("paused", "running")
    assert member.exec("true").status == 0
    other("resume").ok()
    assert json.loads(other.runtime("events", "--stats", other.id).ok().out)["id"] == other.id
    other.kill("TERM")
    assert other.wait(END_S) == 9
    other.delete()


def test_delete_of_what_runs_needs_force_and_leaves_the_others(pod: Pod, member: Container) -> None:
    victim = pod.start(*FOREVER)
    assert victim.runtime("delete", victim.id).status != 0
    victim.delete("--force")
    assert victim.wait(END_S) == 137
    assert member.exec("true").status == 0


def test_a_member_that_was_never_started_is_deleted(pod: Pod) -> None:
    created = pod.create(*FOREVER)
    assert created.status == "created"
    created.delete()
    assert pod.sandbox.status == "running"


@pytest.mark.parametrize("kind", ["network", "ipc", "uts"])
def test_a_namespace_of_strangers_is_refused(pod: Pod, kind: str) -> None:
    def stray(spec: dict[str, object]) -> None:
        for namespace in spec["linux"]["namespaces"]:  # type: ignore[index]
            if namespace["type"] == kind:
                namespace["path"] = f"/proc/{os.getpid()}/ns/{kind.replace('network', 'net')}"

    container, result = pod.try_create(*FOREVER, edit=stray)
    assert result.status == 1
    assert f"the {kind} namespace" in result.err
    assert container.id not in pod.runtime.ids()


def test_a_member_that_cannot_be_created_leaves_the_pod_alone(pod: Pod, member: Container, tmp_path: Path) -> None:
    """The error of the guest names the host's directory."""
    bind = {"destination": "/etc/passwd", "type": "bind", "source": str(tmp_path), "options": ["bind"]}
    container, result = pod.try_create("true", mounts=[bind])
    assert result.status == 1
    assert f"`{tmp_path}` to `etc/passwd`: Not a directory" in result.err
    assert container.id not in pod.runtime.ids()
    assert member.exec("true").status == 0
    after = pod.start("true")
    assert after.wait(END_S) == 0
    after.delete()


def test_a_sandbox_that_is_gone_is_an_error_at_once(runtime: Runtime, bundle: BundleMaker) -> None:
    notes = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "nosuch"}
    _, result = runtime.try_create(bundle(*FOREVER, annotations=notes))
    assert result.status == 1
    assert "the sandbox nosuch of this container does not exist" in result.err
    assert runtime.ids() == []


def test_a_damaged_neighbour_does_not_matter(pod: Pod) -> None:
    """Looking for the pod by namespaces reads every state."""
    ruin = Path(pod.runtime.root / "ruin")
    ruin.mkdir()
    (ruin / "state.json").write_text("{")
    try:
        notes = {"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": "the-pods-name"}
        named = pod.start("sh", "-c", "exit 5", annotations=notes)
        assert named.wait(END_S) == 5
        assert json.loads((named.state_dir / "state.json").read_text())["sandbox"] == pod.id
        named.delete()
    finally:
        (ruin / "state.json").unlink()
        ruin.rmdir()


def test_deleting_the_sandbox_ends_everything(runtime: Runtime, bundle: BundleMaker) -> None:
    pod = Pod(runtime, bundle)
    members = [pod.start(*FOREVER) for _ in range(2)]
    qemu = owner_of(pod.sandbox, "qemu-system")
    pod.sandbox.delete("--force")
    assert not processes.alive(qemu)
    for member in members:
        assert member.wait(END_S) == 137
        assert member.status == "stopped"
        member.delete()
    assert runtime.ids() == []


def test_members_outlive_a_sandbox_container_that_only_ended(runtime: Runtime, bundle: BundleMaker) -> None:
    """As with runc: they end with it when it is deleted, not before."""
    pod = Pod(runtime, bundle, pause=PAUSE)
    member = pod.start(*FOREVER)
    pod.sandbox.kill("TERM")
    assert pod.sandbox.wait(END_S) == 0
    assert pod.sandbox.status == "stopped"
    assert member.exec("echo", "alive").ok().out == "alive\n"
    _, late = pod.try_create(*FOREVER)
    assert late.status == 1
    assert "is not running" in late.err
    member.kill()
    assert member.wait(END_S) == 137
    member.delete()
    pod.sandbox.delete()
