"""`podman pod`, `run --pod` and `kube play`: two containers and a volume in one machine."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from framework.podman import IMAGE, Box, Podman
from framework.runtime import BOOT_S
from framework.wait import wait_for

END_S = 60.0
OBEDIENT = "trap 'exit 9' TERM; while :; do sleep 1000000 & wait; done"


class PodmanPod:
    """A pod of Podman's, started."""

    def __init__(self, podman: Podman, name: str, *flags: str) -> None:
        self.podman = podman
        self.name = name
        podman("pod", "create", f"--name={name}", "--network=none", *_parent(podman), *flags).ok()
        podman("pod", "start", name, timeout=BOOT_S).ok()

    def run(self, *args: str) -> Box:
        return Box(self.podman, self.podman("run", "-d", f"--pod={self.name}", *args, timeout=BOOT_S).ok().out.strip())

    def __call__(self, verb: str, *args: str) -> str:
        return self.podman("pod", verb, *args, self.name, timeout=BOOT_S).ok().out

    def states(self) -> dict[str, str]:
        """Name -> state of its containers, the infra container too."""
        document = json.loads(self("inspect"))
        if isinstance(document, list):  # since Podman 5
            (document,) = document
        return {c["Name"]: c["State"] for c in document["Containers"]}


def _parent(podman: Podman) -> tuple[str, ...]:
    return (f"--cgroup-parent={podman.cgroup}",)


@pytest.fixture(scope="module")
def pod(podman: Podman) -> Iterator[PodmanPod]:
    made = PodmanPod(podman, "pair")
    yield made
    made("rm", "--force", "--time=0")


def test_two_containers_share_machine_and_namespaces(pod: PodmanPod) -> None:
    one = pod.run(IMAGE, "sh", "-c", OBEDIENT)
    two = pod.run(IMAGE, "sh", "-c", "echo hello | nc -l -p 4712; exec sleep 1000000")
    assert one.sh("cat /proc/sys/kernel/random/boot_id") == two.sh("cat /proc/sys/kernel/random/boot_id")
    for kind in ("net", "ipc", "uts"):
        assert one.sh(f"readlink /proc/self/ns/{kind}") == two.sh(f"readlink /proc/self/ns/{kind}"), kind
    wait_for("the neighbour's answer", lambda: one.sh("nc 127.0.0.1 4712 || true") == "hello", END_S)
    assert one.sh("hostname") == "pair"
    one("stop", "--time=30").ok()
    assert one.inspect("State.ExitCode") == "9"
    assert two.exec("echo", "alive").ok().out == "alive\n"
    for box in (one, two):
        box("rm", "--force", "--time=0").ok()


def test_a_member_is_started_again(pod: PodmanPod) -> None:
    box = pod.run(IMAGE, "sh", "-c", "echo run >> /runs; cat /runs; exit 3")
    assert box("wait").ok().out == "3\n"
    box("start", timeout=BOOT_S).ok()
    assert box("wait").ok().out == "3\n"
    assert box.logs().splitlines() == ["run", "run", "run"]
    box("rm").ok()


def test_stop_start_and_rm_of_a_whole_pod(podman: Podman) -> None:
    pod = PodmanPod(podman, "whole", "--share=net,ipc,uts,pid")
    box = pod.run("--name=worker", IMAGE, "sh", "-c", OBEDIENT)
    assert box.sh("readlink /proc/1/ns/pid") == box.sh("readlink /proc/self/ns/pid")
    pod("stop", "--time=30")
    assert set(pod.states().values()) == {"exited"}
    pod("start")
    wait_for("all to run", lambda: set(pod.states().values()) == {"running"}, END_S)
    assert box.exec("echo", "again").ok().out == "again\n"
    pod("rm", "--force", "--time=0")
    assert podman("pod", "exists", "whole").status == 1


KUBE = """
apiVersion: v1
kind: Pod
metadata: {name: played}
spec:
  restartPolicy: Never
  volumes:
  - {name: exchange, emptyDir: {}}
  - {name: host, hostPath: {path: HOST, type: Directory}}
  containers:
  - name: writer
    image: IMAGE
    command: [/bin/sh, -c, "echo written > /exchange/file; exec /bin/sleep 1000000"]
    volumeMounts: [{name: exchange, mountPath: /exchange}, {name: host, mountPath: /host}]
  - name: reader
    image: IMAGE
    command: [/bin/sh, -c, "PATH=/bin; until [ -s /exchange/file ]; do sleep 1; done; cat /exchange/file; sleep 100000"]
    volumeMounts: [{name: exchange, mountPath: /exchange}]
"""


def test_kube_play_of_two_containers_and_a_volume(podman: Podman, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (tmp_path / "pod.yaml").write_text(KUBE.replace("HOST", str(host)).replace("IMAGE", IMAGE))
    try:
        podman("kube", "play", "--network=none", tmp_path / "pod.yaml", timeout=2 * BOOT_S).ok()
        reader, writer = Box(podman, "played-reader"), Box(podman, "played-writer")
        assert reader.wait_logs("written\n") == "written\n"
        writer.exec("/bin/sh", "-c", "echo out > /host/out").ok()
        assert (host / "out").read_text() == "out\n"
    finally:
        podman("kube", "down", tmp_path / "pod.yaml", timeout=BOOT_S).ok()
