"""The pod's network: what is in its namespace on the host is in the guest, and packets go through both ways."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from framework.fixtures import BundleMaker
from framework.leaks import Scope
from framework.network import Wire, add_addresses, in_namespace, run
from framework.runtime import Container, Runtime, owner_of
from framework.wait import wait_for

pytestmark = pytest.mark.guest

SLOW_S = 60.0
MAC = "02:00:00:00:77:02"
GATEWAY = "10.77.0.1"
SERVER = ("nc", "-ll", "-p", "8080", "-e", "cat")


def plug_in(wire: Wire) -> None:
    """What an engine does before it calls the runtime."""
    wire.cable("eth0", Wire.ADDRESSES, Wire.WORLD, "address", MAC, "mtu", "1400")
    wire.pod.ip("route", "add", "default", "via", GATEWAY)
    wire.pod.ip("-6", "route", "add", "default", "via", "fd77::1")
    wire.pod.ip("route", "add", "10.99.0.0/16", "via", GATEWAY, "metric", "77")


def plug_in_others(wire: Wire) -> None:
    """A macvlan whose parent is in the world, a tap that nobody reads, and one with eth0's hardware address, as ipvlans
    have their parent's."""
    wire.world.ip("link", "add", "p0", "type", "veth", "peer", "name", "p1")
    for link in ("p0", "p1"):
        wire.world.ip("link", "set", link, "up")
    add_addresses(wire.world, "p1", ["10.78.0.1/24"])
    wire.world.ip("link", "add", "net1", "link", "p0", "netns", wire.pod.name, "type", "macvlan", "mode", "bridge")
    wire.pod.ip("tuntap", "add", "tap7", "mode", "tap")
    for link, address in (("net1", "10.78.0.2/24"), ("tap7", "10.76.0.2/24")):
        add_addresses(wire.pod, link, [address])
        wire.pod.ip("link", "set", link, "up")
    wire.cable("twin", ["10.75.0.2/24"], ["10.75.0.1/24"], "address", MAC)


@pytest.fixture(scope="module")
def shared_wire(scope: Scope, no_leaks_of_the_module: None) -> Iterator[Wire]:
    wire = Wire(f"{scope.token}-m")
    plug_in(wire)
    plug_in_others(wire)
    wire.pod.ip("neigh", "add", "10.77.0.9", "lladdr", "02:00:00:00:77:09", "dev", "eth0", "nud", "permanent")
    yield wire
    wire.close()


@pytest.fixture(scope="module")
def box(shared_wire: Wire, module_runtime: Runtime, module_bundle: BundleMaker) -> Container:
    """A container on the wire whose process says what it hears on port 8080. One boot for what does not change it."""
    return module_runtime.start(module_bundle(*SERVER, edit=in_namespace(shared_wire.pod.path)))


@pytest.fixture
def wire(scope: Scope, no_leaks: None) -> Iterator[Wire]:
    made = Wire(f"{scope.token}-t")
    yield made
    made.close()


def test_the_guest_has_the_pods_interface(box: Container) -> None:
    said = box.sh("ip addr show eth0")
    for wanted in (MAC, "mtu 1400", "inet 10.77.0.2/24", "inet6 fd77::2/64", "inet6 fe80::ff:fe00:7702/64"):
        assert wanted in said, said
    assert "tentative" not in said


def test_every_interface_is_in_the_guest(box: Container) -> None:
    assert box.sh("ls /sys/class/net").split() == ["eth0", "lo", "net1", "tap7", "twin"]
    assert "inet 10.78.0.2/24" in box.sh("ip addr show net1")
    assert "inet 10.76.0.2/24" in box.sh("ip addr show tap7")
    twin = box.sh("ip addr show twin")
    assert MAC in twin
    assert "inet 10.75.0.2/24" in twin


def test_packets_go_by_vhost_net_where_it_exists(box: Container) -> None:
    """Such as in a test host. The tests below see packets go either way."""
    descriptors = Path(f"/proc/{owner_of(box, 'qemu')}/fd").iterdir()
    used = sum(os.readlink(fd) == "/dev/vhost-net" for fd in descriptors)
    assert used == (4 if os.path.exists("/dev/vhost-net") else 0), "one for each interface"


def test_the_guest_has_the_pods_routes_and_neighbours(box: Container) -> None:
    routes = box.sh("ip route").splitlines()
    assert "default via 10.77.0.1 dev eth0 " in routes
    assert "10.99.0.0/16 via 10.77.0.1 dev eth0  metric 77 " in routes
    assert any(line.startswith("default via fd77::1 dev eth0") for line in box.sh("ip -6 route").splitlines())
    assert "10.77.0.9 dev eth0 lladdr 02:00:00:00:77:09" in box.sh("ip neigh")


@pytest.mark.parametrize("address", ["10.77.0.1", "fd77::1", "10.78.0.1", "10.75.0.1"])
def test_the_world_can_be_reached(box: Container, address: str) -> None:
    box.sh(f"ping -c 3 -W 20 {address}", timeout=SLOW_S + 30)


@pytest.mark.parametrize("address", ["10.77.0.2", "fd77::2", "10.78.0.2", "10.75.0.2"])
def test_the_pod_can_be_reached(box: Container, shared_wire: Wire, address: str) -> None:
    shared_wire.world.exec("busybox", "ping", "-c", "3", "-W", "20", address)


def test_a_server_in_the_world_is_reached_by_tcp(box: Container, shared_wire: Wire) -> None:
    with shared_wire.world.socket() as server:
        server.bind((GATEWAY, 8000))
        server.listen()
        wait = box.runtime.popen("exec", box.id, "sh", "-c", f"echo hello from the pod | nc {GATEWAY} 8000")
        peer, address = server.accept()
        with peer:
            peer.settimeout(SLOW_S)
            assert address[0] == "10.77.0.2"
            assert peer.recv(100) == b"hello from the pod\n"
        assert wait.wait(SLOW_S) == 0


@pytest.fixture(scope="module")
def echo(box: Container) -> int:
    """The port of the container's server, which listens on every address of both families."""
    box.sh("until nc -w 20 127.0.0.1 8080 </dev/null; do sleep 0.1; done", timeout=SLOW_S + 30)
    return 8080


def check_echo(client: socket.socket, size: int) -> None:
    """What is sent comes back, and after the end of one direction the end of the other."""
    text = os.urandom(size)

    def send() -> None:
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)

    sending = threading.Thread(target=send)
    sending.start()
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    sending.join()
    assert received == text


def test_a_server_in_the_pod_is_reached_by_tcp(shared_wire: Wire, echo: int) -> None:
    with shared_wire.world.socket() as client:
        client.connect(("10.77.0.2", echo))
        check_echo(client, 300_000)


def test_statistics_count_the_interfaces(box: Container, shared_wire: Wire) -> None:
    shared_wire.world.exec("busybox", "ping", "-c", "1", "-W", "20", "10.77.0.2")
    interfaces = json.loads(box.runtime("events", "--stats", box.id).ok().out)["data"]["network_interfaces"]
    interface = next(i for i in interfaces if i["Name"] == "eth0")
    assert interface["RxBytes"] >= 84
    assert interface["TxPackets"] >= 1


# -- the pod's own addresses, from its namespace on the host ----------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.77.0.2", "fd77::2"])
def test_the_pods_own_addresses_lead_to_the_guest(shared_wire: Wire, echo: int, address: str) -> None:
    with shared_wire.pod.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
        client.connect((address, echo))
        check_echo(client, 300_000)


def test_many_connections_at_once(shared_wire: Wire, echo: int) -> None:
    clients = [shared_wire.pod.socket() for _ in range(8)]
    for client in clients:
        client.connect(("127.0.0.1", echo))
    for client in clients:
        client.sendall(client.getsockname()[1].to_bytes(2))
    for client in clients:
        assert client.recv(10) == client.getsockname()[1].to_bytes(2)
        client.close()


def test_where_nobody_listens_the_connection_is_reset(shared_wire: Wire, box: Container) -> None:
    def connect_and_read() -> None:
        with shared_wire.pod.socket() as client:
            client.connect(("127.0.0.1", 9))
            client.recv(1)

    with pytest.raises(ConnectionError):
        connect_and_read()


# -- changes ----------------------------------------------------------------------------------------------------------


def test_interfaces_that_come_and_go_are_followed(box: Container, shared_wire: Wire) -> None:
    shared_wire.cable("late0", ["10.70.0.2/24"], ["10.70.0.1/24"])
    wait_for("the interface is in the guest", lambda: "10.70.0.2/24" in box.sh("ip addr"), SLOW_S)
    box.sh("ping -c 1 -W 20 10.70.0.1", timeout=SLOW_S)
    shared_wire.pod.ip("address", "add", "10.70.0.3/24", "dev", "late0")
    shared_wire.pod.ip("route", "add", "10.71.0.0/16", "via", "10.70.0.1")
    wait_for("the route is in the guest", lambda: "10.71.0.0/16" in box.sh("ip route"), SLOW_S)
    assert "10.70.0.3/24" in box.sh("ip addr show late0")
    shared_wire.pod.ip("route", "del", "10.71.0.0/16")
    wait_for("the route is gone in the guest", lambda: "10.71.0.0/16" not in box.sh("ip route"), SLOW_S)
    shared_wire.pod.ip("link", "set", "late0", "mtu", "1300")
    wait_for("the guest has the MTU", lambda: "mtu 1300" in box.sh("ip addr show late0"), SLOW_S)
    shared_wire.world.ip("link", "del", "v-late0")
    wait_for("the interface is gone in the guest", lambda: "late0" not in box.sh("ls /sys/class/net"), SLOW_S)
    wait_for("its tap is gone", lambda: len(taps(shared_wire)) == 4, SLOW_S)


def taps(wire: Wire) -> list[str]:
    return [name for name in wire.pod.links() if name.startswith("kata-")]


def test_interfaces_that_an_engine_adds_after_create(
    wire: Wire, runtime: Runtime, bundle: BundleMaker, scope: Scope
) -> None:
    """As Docker does it: the namespace is the container's own, found by its pid."""
    container = runtime.create(bundle(edit=in_namespace(None)))
    mine = f"{scope.token}-mine"
    run("ip", "netns", "attach", mine, str(container.pid))
    try:
        wire.world.ip("link", "add", "v-eth0", "type", "veth", "peer", "name", "eth0", "netns", mine)
        for namespace, link, address in ((wire.world.name, "v-eth0", "10.77.0.1/24"), (mine, "eth0", "10.77.0.2/24")):
            run("ip", "-n", namespace, "address", "add", address, "dev", link)
            run("ip", "-n", namespace, "link", "set", link, "up")
        container.start()
        assert "10.77.0.2/24" in container.sh("ip addr show eth0")
        container.sh("ping -c 1 -W 20 10.77.0.1", timeout=SLOW_S)
    finally:
        run("ip", "netns", "delete", mine)
        container.delete("--force")


def test_more_interfaces_than_a_machine_takes_are_refused(wire: Wire, runtime: Runtime, bundle: BundleMaker) -> None:
    for number in range(8):
        wire.cable(f"eth{number}", (), ())
    _, result = runtime.try_create(bundle(edit=in_namespace(wire.pod.path)))
    assert result.status == 1
    assert "network interface eth7: no free slot" in result.err
    assert wire.pod.links() == [f"eth{number}" for number in range(8)]
    assert wire.pod.redirections() == ""
    assert runtime.ids() == []


# -- the end ----------------------------------------------------------------------------------------------------------


def test_nothing_is_left_after_delete(wire: Wire, runtime: Runtime, bundle: BundleMaker) -> None:
    plug_in(wire)
    container = runtime.start(bundle(edit=in_namespace(wire.pod.path)))
    assert wire.pod.redirections()
    assert taps(wire)
    container.delete("--force")
    assert wire.pod.links() == ["eth0"]
    assert wire.pod.redirections() == ""


def test_nothing_is_left_of_a_supervisor_that_was_killed(wire: Wire, runtime: Runtime, bundle: BundleMaker) -> None:
    plug_in(wire)
    container = runtime.start(bundle(edit=in_namespace(wire.pod.path)))
    os.kill(owner_of(container, "supervisor"), signal.SIGKILL)
    container.wait_status("stopped", SLOW_S)
    wait_for("the taps are gone", lambda: wire.pod.links() == ["eth0"], SLOW_S)
    assert wire.pod.redirections()
    container.delete("--force")
    assert wire.pod.redirections() == ""


def test_a_namespace_that_has_gone_does_not_hold_delete_back(wire: Wire, runtime: Runtime, bundle: BundleMaker) -> None:
    plug_in(wire)
    container = runtime.start(bundle(edit=in_namespace(wire.pod.path)))
    wire.pod.close()
    wire.world.ip("link", "del", "v-eth0")
    assert container.sh("echo alive") == "alive"
    os.kill(owner_of(container, "supervisor"), signal.SIGKILL)
    container.wait_status("stopped", SLOW_S)
    container.delete("--force")
