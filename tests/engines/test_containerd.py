"""containerd's CRI with the shipped configuration, as the kubelet calls it: a life, streams, a restart. Over gRPC."""

import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from framework import processes
from framework.containerd import Containerd
from framework.fixtures import CHECKOUT, HOST_RUNTIMES
from framework.leaks import Scope
from framework.runtime import Runtime
from framework.wait import wait_for
from framework.websocket import ERROR, STDIN, STDOUT, Channels

SHIPPED = CHECKOUT / "configs/containerd/katapy.toml"
FOREVER = ("sleep", "1000000")
END_S = 90.0
PLUGINS = Path("/usr/lib/cni")


def _network(folder: Path, bridge: str) -> str:
    ipam = {"type": "host-local", "subnet": "10.99.7.0/24", "dataDir": f"{folder}/ipam"}
    plugin = {"type": "bridge", "bridge": bridge, "ipam": ipam}
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [plugin]})


@pytest.fixture(scope="module")
def containerd(module_runtime: Runtime, scope: Scope) -> Iterator[Containerd]:
    if module_runtime.name in HOST_RUNTIMES:
        pytest.skip("the configuration is katapy's")
    missing = [name for name in ("containerd", "ctr", "containerd-shim-runc-v2") if shutil.which(name) is None]
    assert not missing, f"not installed: {', '.join(missing)}: make setup"
    folder, bridge = scope.root / "cd", f"kt{secrets.token_hex(4)}"
    cgroup = f"/{scope.token}-{secrets.token_hex(3)}"
    network = str(PLUGINS), _network(folder, bridge)
    containerd = Containerd(folder, SHIPPED.read_text(), module_runtime, cgroup, network)
    try:
        yield containerd
    finally:
        containerd.close()
        subprocess.run(["ip", "link", "del", bridge], check=False)
        shutil.rmtree(folder)


class Pod:
    """A running one."""

    def __init__(self, containerd: Containerd, name: str, **options: int) -> None:
        self.containerd = containerd
        self.config = containerd.pod_config(name, **options)
        self.id = containerd.run_pod(self.config)

    def start(self, name: str, *command: str, **more: Any) -> str:
        return self.containerd.start_container(self.id, self.config, name, *command, **more)

    def ready(self) -> bool:
        request = self.containerd.message("PodSandboxId", pod_sandbox_id=self.id)
        return bool(self.containerd.call("PodSandboxStatus", request).status.state == 0)


@pytest.fixture(scope="module")
def pod(containerd: Containerd) -> Iterator[Pod]:
    pod = Pod(containerd, "pod")
    yield pod
    containerd.remove(pod.id)


@pytest.fixture(scope="module")
def box(pod: Pod) -> str:
    return pod.start("box", "sh", "-c", "echo started; echo trouble >&2; exec sleep 1000000")


def test_several_containers_in_one_machine(containerd: Containerd, pod: Pod, box: str, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    mounts = [{"container_path": "/volume", "host_path": str(tmp_path / "volume")}]
    one = pod.start("one", *FOREVER, mounts=mounts)
    two = pod.start("two", *FOREVER, mounts=mounts)
    boot_id = containerd.sh(box, "cat /proc/sys/kernel/random/boot_id")
    assert {containerd.sh(c, "cat /proc/sys/kernel/random/boot_id") for c in (one, two)} == {boot_id}
    assert containerd.sh(one, "hostname") == "pod"
    containerd.sh(one, "echo written > /volume/file; echo shared > /dev/shm/file")
    assert containerd.sh(two, "cat /volume/file /dev/shm/file") == "written\nshared"
    assert (tmp_path / "volume/file").read_text() == "written\n"
    for container in (one, two):
        containerd.call("StopContainer", containerd.message("StopContainerRequest", container_id=container, timeout=0))
        assert containerd.status(container).exit_code == 137
        containerd.on("RemoveContainer", container)
    assert pod.ready()


def test_exec_sync(containerd: Containerd, box: str) -> None:
    done = containerd.exec_sync(box, "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 5)


def test_an_exec_that_takes_too_long_is_killed(containerd: Containerd, box: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        containerd.exec_sync(box, "sleep", "4242", timeout=2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for("its process to go", lambda: "sleep 4242" not in containerd.sh(box, "ps -o args"), END_S)


def test_logs(containerd: Containerd, box: str) -> None:
    log = containerd.folder / "logs/box.log"
    wait_for("both lines", lambda: log.read_text().count("\n") == 2, END_S)
    assert sorted(line.split(" ", 1)[1] for line in log.read_text().splitlines()) == [
        "stderr F trouble",
        "stdout F started",
    ]


def test_status_of_what_ends(containerd: Containerd, pod: Pod) -> None:
    container = pod.start("short", "sh", "-c", "exit 6")
    assert containerd.wait_exit(container) == 6
    containerd.on("RemoveContainer", container)


def test_an_exec_with_a_stream(containerd: Containerd, box: str) -> None:
    script = "read line; echo got $line; exit 3"
    request = containerd.message(
        "ExecRequest", container_id=box, cmd=["sh", "-c", script], stdin=True, stdout=True, stderr=True
    )
    with Channels(containerd.call("Exec", request).url) as channels:
        channels.send(STDIN, b"word\n")
        received = channels.rest()
    assert received[STDOUT] == b"got word\n"
    assert '"message":"3"' in received[ERROR].decode()


def test_an_exec_with_a_terminal(containerd: Containerd, box: str) -> None:
    request = containerd.message(
        "ExecRequest", container_id=box, cmd=["sh", "-c", "test -t 0 && echo tty"], tty=True, stdin=True, stdout=True
    )
    with Channels(containerd.call("Exec", request).url) as channels:
        assert channels.rest()[STDOUT] == b"tty\r\n"


def test_attach(containerd: Containerd, pod: Pod) -> None:
    container = pod.start("cat", "sh", "-c", "while read line; do echo got $line; done; exit 4", stdin=True)
    request = containerd.message("AttachRequest", container_id=container, stdin=True, stdout=True, stderr=True)
    with Channels(containerd.call("Attach", request).url) as channels:
        channels.send(STDIN, b"one\n")
        channels.until(STDOUT, b"got one\n")
    containerd.call("StopContainer", containerd.message("StopContainerRequest", container_id=container, timeout=0))
    containerd.on("RemoveContainer", container)


def test_port_forward(containerd: Containerd, pod: Pod) -> None:
    """To 127.0.0.1 of the pod: containerd connects in the pod's network namespace on the host."""
    server = pod.start("server", "sh", "-c", "while :; do nc -l -p 8080 -e cat; done")
    wait_for("the server", lambda: ":8080 " in containerd.sh(server, "netstat -ltn"), END_S)
    request = containerd.message("PortForwardRequest", pod_sandbox_id=pod.id, port=[8080])
    with Channels(containerd.call("PortForward", request).url) as channels:
        channels.send(STDIN, b"echo, please\n")
        channels.until(0, b"echo, please\n")
    containerd.call("StopContainer", containerd.message("StopContainerRequest", container_id=server, timeout=0))
    containerd.on("RemoveContainer", server)


def test_statistics_and_update(containerd: Containerd, pod: Pod) -> None:
    container = pod.start("limited", *FOREVER, linux={"resources": {"memory_limit_in_bytes": 64 << 20}})
    assert containerd.sh(container, "cat /sys/fs/cgroup/memory.max") == str(64 << 20)
    assert containerd.on("ContainerStats", container).stats.attributes.id == container
    change = {"memory_limit_in_bytes": 80 << 20}
    request = containerd.message("UpdateContainerResourcesRequest", container_id=container, linux=change)
    containerd.call("UpdateContainerResources", request)
    assert containerd.sh(container, "cat /sys/fs/cgroup/memory.max") == str(80 << 20)
    containerd.call("StopContainer", containerd.message("StopContainerRequest", container_id=container, timeout=0))
    containerd.on("RemoveContainer", container)


def test_out_of_memory_is_the_reason(containerd: Containerd, pod: Pod) -> None:
    hungry = "awk 'BEGIN { s = \"x\"; while (1) s = s s }'; exit $?"
    container = pod.start("hungry", "sh", "-c", hungry, linux={"resources": {"memory_limit_in_bytes": 32 << 20}})
    assert containerd.wait_exit(container) == 137
    wait_for("the event of it", lambda: containerd.status(container).reason == "OOMKilled", END_S)
    containerd.on("RemoveContainer", container)


def test_a_pod_whose_containers_share_processes(containerd: Containerd) -> None:
    pod = Pod(containerd, "shared", pid=0)
    one, two = (pod.start(name, "sleep", f"424{n}") for n, name in enumerate(("one", "two")))
    assert "sleep 4241" in containerd.sh(one, "ps -o args")
    containerd.call("StopContainer", containerd.message("StopContainerRequest", container_id=one, timeout=0))
    assert "sleep 4240" not in containerd.sh(two, "ps -o args")
    containerd.remove(pod.id)


@pytest.fixture(scope="module")
def restarted(containerd: Containerd, pod: Pod, box: str) -> str:
    """A container that was running when containerd was restarted."""
    machines = _machines()
    container = pod.start("lasting", "sh", "-c", "trap 'exit 8' TERM; while :; do sleep 1000000 & wait; done")
    containerd.stop()
    containerd.start()
    assert _machines() == machines
    return container


def test_a_restart_of_containerd_loses_nothing(containerd: Containerd, pod: Pod, box: str, restarted: str) -> None:
    assert pod.ready()
    assert containerd.sh(box, "echo alive") == "alive"
    request = containerd.message("StopContainerRequest", container_id=restarted, timeout=60)
    containerd.call("StopContainer", request)
    assert containerd.status(restarted).exit_code == 8
    containerd.on("RemoveContainer", restarted)
    again = pod.start("again", "sh", "-c", "exit 5")
    assert containerd.wait_exit(again) == 5
    containerd.on("RemoveContainer", again)


def _machines() -> set[int]:
    return {
        p.pid for p in processes.all_processes().values() if p.command.split(" ", 1)[0].endswith("qemu-system-x86_64")
    }


def test_stop_and_remove_leave_nothing(containerd: Containerd) -> None:
    pod = Pod(containerd, "brief")
    containers = [pod.start(f"c{n}", *FOREVER) for n in range(2)]
    containerd.call("StopPodSandbox", containerd.message("PodSandboxId", pod_sandbox_id=pod.id))
    assert not pod.ready()
    assert {containerd.status(c).state for c in containers} == {2}
    containerd.call("RemovePodSandbox", containerd.message("PodSandboxId", pod_sandbox_id=pod.id))
    request = containerd.message("PodSandboxId", pod_sandbox_id=pod.id)
    with pytest.raises(grpc.RpcError):
        containerd.call("PodSandboxStatus", request)
    assert not any(pod.id in p.command for p in processes.all_processes().values())
