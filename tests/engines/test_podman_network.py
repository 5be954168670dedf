"""Podman's networks (netavark, aardvark-dns): addresses, names, published ports. In a namespace that plays the host."""

import contextlib
import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from framework.fixtures import CHECKOUT, HOST_RUNTIMES, unavailable
from framework.leaks import Scope
from framework.network import Namespace
from framework.podman import IMAGE, Box, Podman, cgroup_parent
from framework.processes import all_processes, descendants
from framework.runtime import BOOT_S, Runtime
from framework.wait import wait_for

NETWORK, SECOND = "first", "second"
HOST_PORT = 8090
SERVER = ("nc", "-ll", "-p", "8080", "-e", "cat")
SLOW_S = 90.0
AARDVARK = Path("/run/containers/networks/aardvark-dns")
CONFIG = (CHECKOUT / "configs/podman/katapy.conf").read_text() + '\n[network]\nnetwork_backend = "netavark"\n'


@pytest.fixture(scope="module")
def netavark_is_installed(podman_is_installed: None) -> None:
    if not all(os.path.exists(f"/usr/lib/podman/{name}") for name in ("netavark", "aardvark-dns")):
        unavailable("not installed: netavark, aardvark-dns")


@pytest.fixture(scope="module")
def world(netavark_is_installed: None, scope: Scope, no_leaks_of_the_module: None) -> Iterator[Namespace]:
    made = Namespace(f"{scope.token}-host")
    yield made
    made.close()


@pytest.fixture(scope="module")
def podman(world: Namespace, module_runtime: Runtime, scope: Scope) -> Iterator[Podman]:
    """With two networks of its own."""
    guest = module_runtime.name not in HOST_RUNTIMES
    no_dns_server_of_others()
    folder = scope.root / "podman"
    cgroup = cgroup_parent(scope.token)
    enter = ["nsenter", f"--net={world.path}"]
    with contextlib.closing(Podman(folder, CONFIG, module_runtime, cgroup, guest, enter)) as made:
        for name, subnet in ((NETWORK, "10.87.7.0/24"), (SECOND, "10.87.8.0/24")):
            made("network", "create", f"--subnet={subnet}", name).ok()
        yield made
    wait_for("aardvark-dns has ended", lambda: not dns_servers(), SLOW_S)


def no_dns_server_of_others() -> None:
    """Netavark has one DNS server, one folder for it, on a host: what a killed Podman left there is taken away."""
    try:
        pid = int((AARDVARK / "aardvark.pid").read_text())
    except (FileNotFoundError, ValueError):
        pid = 0
    process = all_processes().get(pid)
    if process is not None and "aardvark-dns" in process.command:
        pytest.fail(f"Podman's networks are in use on this host (aardvark-dns, pid {pid}): these tests need them alone")
    shutil.rmtree(AARDVARK, ignore_errors=True)


def dns_servers() -> list[int]:
    return [p.pid for p in descendants(os.getpid()) if "aardvark-dns" in p.command]


@pytest.fixture(scope="module")
def server(podman: Podman, world: Namespace) -> Box:
    flags = ("--name=server", f"--publish={HOST_PORT}:8080")
    made = Box(podman, podman.run("-d", *flags, IMAGE, *SERVER, network=NETWORK).ok().out.strip())
    made.sh("until nc -w 20 127.0.0.1 8080 </dev/null; do sleep 0.1; done")
    return made


def test_the_container_has_the_address_that_podman_tells(server: Box) -> None:
    address = server.inspect(f"NetworkSettings.Networks.{NETWORK}.IPAddress")
    assert address.startswith("10.87.7.")
    assert f"inet {address}/24" in server.sh("ip addr show eth0")
    assert "default via 10.87.7.1 dev eth0" in server.sh("ip route")


@pytest.mark.parametrize("address", ["127.0.0.1", "10.87.7.1"])
def test_a_published_port_leads_to_the_container(server: Box, world: Namespace, address: str) -> None:
    with world.socket() as client:
        client.connect((address, HOST_PORT))
        client.sendall(b"through the port")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b"through the port"


def test_containers_find_each_other_by_name(server: Box, podman: Podman) -> None:
    script = "echo by name | nc -w 30 server 8080; cat /etc/resolv.conf"
    said = podman.run("--rm", IMAGE, "sh", "-c", script, network=NETWORK).ok().out
    assert said.startswith("by name\n")
    assert "nameserver 10.87.7.1" in said


def test_a_network_is_connected_and_disconnected_while_the_container_runs(server: Box, podman: Podman) -> None:
    podman("network", "connect", SECOND, server.id).ok()
    wait_for("the guest has the second network", lambda: "inet 10.87.8." in server.sh("ip addr"), SLOW_S)
    podman("network", "disconnect", SECOND, server.id).ok()
    wait_for("it has gone", lambda: "eth1" not in server.sh("ls /sys/class/net"), SLOW_S)


def test_a_container_with_a_user_namespace_gets_its_network_after_create(podman: Podman) -> None:
    flags = ("--uidmap=0:100000:65536", "--gidmap=0:100000:65536")
    said = podman.run("--rm", *flags, IMAGE, "sh", "-c", "ip addr; ip route", network=NETWORK).ok().out
    assert "inet 10.87.7." in said
    assert "default via 10.87.7.1" in said


POD_PORT = 8091
KUBE = f"""
apiVersion: v1
kind: Pod
metadata: {{name: played}}
spec:
  containers:
  - name: server
    image: {IMAGE}
    command: [/bin/nc, -ll, -p, "8080", -e, cat]
    ports: [{{containerPort: 8080, hostPort: {POD_PORT}}}]
  - name: client
    image: {IMAGE}
    command: [/bin/sleep, "1000000"]
"""


def echo(world: Namespace, port: int, text: bytes) -> bytes:
    """What comes back from 127.0.0.1; empty if nobody listens yet."""
    with world.socket() as client:
        client.settimeout(SLOW_S)
        try:
            client.connect(("127.0.0.1", port))
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            return client.recv(100)
        except OSError:
            return b""


def test_a_pod_has_one_network_a_name_and_a_published_port(podman: Podman, world: Namespace, server: Box) -> None:
    flags = ("--name=shop", f"--network={NETWORK}", f"--publish={POD_PORT}:8080", f"--cgroup-parent={podman.cgroup}")
    podman("pod", "create", *flags).ok()
    try:
        one, two = (
            Box(podman, podman("run", "-d", "--pod=shop", IMAGE, *command, timeout=BOOT_S).ok().out.strip())
            for command in (SERVER, ("sleep", "1000000"))
        )
        wait_for("the published port", lambda: echo(world, POD_PORT, b"to the pod") == b"to the pod", SLOW_S)
        assert two.sh("echo inside | nc -w 30 127.0.0.1 8080") == "inside"
        assert one.sh("ip -4 -o addr show eth0") == two.sh("ip -4 -o addr show eth0")
        assert server.sh("echo by name | nc -w 30 shop 8080") == "by name"
    finally:
        podman("pod", "rm", "--force", "--time=0", "shop", timeout=BOOT_S).ok()


def test_kube_play_with_a_port(podman: Podman, world: Namespace, tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(KUBE)
    try:
        podman("kube", "play", f"--network={NETWORK}", tmp_path / "pod.yaml", timeout=2 * BOOT_S).ok()
        wait_for("the port", lambda: echo(world, POD_PORT, b"played") == b"played", SLOW_S)
        client = Box(podman, "played-client")
        said = client.exec("/bin/sh", "-c", "echo near | /bin/nc -w 30 127.0.0.1 8080").ok().out
        assert said == "near\n"
    finally:
        podman("kube", "down", tmp_path / "pod.yaml", timeout=BOOT_S).ok()


@pytest.mark.guest
def test_removing_what_is_left_of_a_killed_supervisor(podman: Podman) -> None:
    box = Box(podman, podman.run("-d", IMAGE, "sleep", "1000000", network=NETWORK).ok().out.strip())
    state = json.loads((podman.runtime.root / box.id / "state.json").read_text())
    os.kill(state["supervisor_pid"], signal.SIGKILL)
    wait_for("podman knows it", lambda: box.inspect("State.Running") == "false", SLOW_S)
    box("rm", "-f").ok()
