"""Network namespaces of the host, with real ones: what a path leads to, what is in them, joining and parting."""

import contextlib
import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from framework.leaks import Scope
from framework.network import Namespace, Wire, add_addresses
from framework.wait import wait_for

from katapy.errors import HostError, Unsupported
from katapy.linux import namespaces, rtnetlink
from katapy.linux.netlink import Netlink
from katapy.network import leftovers, netns, probe
from katapy.network.pod import PodNamespace
from katapy.network.scan import Found


@pytest.fixture
def wire(scope: Scope, no_leaks: None) -> Iterator[Wire]:
    made = Wire(f"{scope.token}-h")
    yield made
    made.close()


@pytest.fixture
def pod(wire: Wire, tmp_path: Path) -> Iterator[PodNamespace]:
    warnings: list[str] = []
    opened = PodNamespace(str(wire.pod.path), str(tmp_path / "network"))
    yield opened
    opened.close(warnings.append)
    assert warnings == []
    assert not (tmp_path / "network").exists()


def names(found: Found) -> list[str]:
    return sorted(i.link.name for i in found.interfaces)


# -- paths ------------------------------------------------------------------------------------------------------------


def test_a_namespace_is_accepted(wire: Wire) -> None:
    netns.check(str(wire.pod.path))


def test_what_is_no_network_namespace_is_an_error() -> None:
    with pytest.raises(HostError, match="/dev/null"):
        netns.check("/dev/null")
    with pytest.raises(HostError, match="no network namespace"):
        netns.check("/proc/self/ns/uts")
    with pytest.raises(HostError, match="no such file"):
        netns.check("/run/netns/katapy-absent")


def test_the_hosts_own_namespace_is_refused() -> None:
    with pytest.raises(Unsupported, match="host networking is not supported"):
        netns.check(f"/proc/{os.getpid()}/ns/net")


def test_whoever_enters_comes_back(wire: Wire) -> None:
    before = os.stat("/proc/self/ns/net").st_ino
    fd = netns.open_namespace(str(wire.pod.path))
    with namespaces.entered("network", fd):
        assert os.stat("/proc/thread-self/ns/net").st_ino == os.stat(wire.pod.path).st_ino
    assert os.stat("/proc/self/ns/net").st_ino == before
    with pytest.raises(ZeroDivisionError), namespaces.entered("network", fd):
        _ = 1 // 0
    assert os.stat("/proc/self/ns/net").st_ino == before
    os.close(fd)


# -- what is in them --------------------------------------------------------------------------------------------------


def test_an_empty_namespace_has_nothing_for_the_guest(pod: PodNamespace) -> None:
    assert pod.scan() == Found((), (), (), ())


def test_all_that_carries_ethernet_is_found(wire: Wire, pod: PodNamespace) -> None:
    wire.cable("eth0", Wire.ADDRESSES, Wire.WORLD)
    wire.world.ip("link", "add", "up0", "type", "bridge")
    wire.world.ip("link", "add", "mv", "link", "up0", "netns", wire.pod.name, "type", "macvlan", "mode", "bridge")
    wire.pod.ip("tuntap", "add", "tap7", "mode", "tap")
    wire.pod.ip("link", "add", "br7", "type", "bridge")
    wire.cable("eth1", (), ())
    wire.pod.ip("link", "set", "eth1", "master", "br7")
    found = pod.scan()
    assert names(found) == ["br7", "eth0", "mv", "tap7"]
    kinds = {i.link.name: i.link.kind for i in found.interfaces}
    assert kinds == {"br7": "bridge", "eth0": "veth", "mv": "macvlan", "tap7": "tun"}
    assert found.left_out == ()


def test_what_does_not_carry_ethernet_is_left_out_and_told(wire: Wire, pod: PodNamespace) -> None:
    wire.pod.ip("tuntap", "add", "tun7", "mode", "tun")
    wire.pod.ip("link", "set", "tun7", "up")
    found = pod.scan()
    assert names(found) == []
    assert found.left_out == ("network interface tun7 is not joined to the guest: it does not carry Ethernet",)


def test_what_is_stacked_on_another_is_left_out_and_told(wire: Wire, pod: PodNamespace) -> None:
    wire.cable("eth0", (), ())
    wire.pod.ip("link", "add", "mv0", "link", "eth0", "type", "macvlan")
    found = pod.scan()
    assert names(found) == ["eth0"]
    assert "mv0" in found.left_out[0]


def test_addresses_routes_and_neighbours(wire: Wire, pod: PodNamespace) -> None:
    wire.cable("eth0", Wire.ADDRESSES, Wire.WORLD, "address", "02:00:00:00:77:02", "mtu", "1300")
    add_addresses(wire.pod, "eth0", ["10.77.5.1/32"])
    wire.pod.ip("address", "add", "10.88.0.1", "peer", "10.88.0.2/32", "dev", "eth0")
    wire.pod.ip("route", "add", "default", "via", "10.77.0.1")
    wire.pod.ip("route", "add", "10.5.0.0/16", "via", "10.200.0.1", "dev", "eth0", "onlink", "metric", "7")
    wire.pod.ip("route", "add", "10.6.0.0/16", "dev", "eth0", "src", "10.77.5.1", "mtu", "1000")
    wire.pod.ip("route", "add", "blackhole", "10.7.0.0/16")
    wire.pod.ip("-6", "route", "add", "default", "via", "fd77::1")
    wire.pod.ip("neigh", "add", "10.77.0.9", "lladdr", "02:00:00:00:77:09", "dev", "eth0", "nud", "permanent")
    found = pod.scan()
    (eth0,) = found.interfaces
    assert (eth0.link.mac.hex(":"), eth0.link.mtu, eth0.link.up) == ("02:00:00:00:77:02", 1300, True)
    addresses = {(text(a.address), a.prefix) for a in eth0.addresses}
    assert addresses >= {("10.77.0.2", 24), ("fd77::2", 64), ("10.77.5.1", 32), ("10.88.0.1", 32)}
    assert "10.88.0.2" in {text(a.peer) for a in eth0.addresses}
    routes = {(text(r.destination), r.prefix): r for r in found.routes if r.family == 2}
    assert text(routes["", 0].gateway) == "10.77.0.1"
    assert (routes["10.5.0.0", 16].onlink, routes["10.5.0.0", 16].metric) == (True, 7)
    assert (text(routes["10.6.0.0", 16].source), routes["10.6.0.0", 16].mtu) == ("10.77.5.1", 1000)
    assert (routes["10.7.0.0", 16].kind, routes["10.7.0.0", 16].ifindex) == (6, 0)
    assert [(text(r.destination), text(r.gateway)) for r in found.routes if r.family == 10] == [("", "fd77::1")]
    assert [(text(n.address), n.mac.hex(":")) for n in found.neighbours] == [("10.77.0.9", "02:00:00:00:77:09")]


def text(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed)) if packed else ""


def test_this_host_can_do_all_of_it() -> None:
    assert probe.missing() == ("", "")


# -- joining ----------------------------------------------------------------------------------------------------------


def test_packets_of_an_interface_come_out_of_the_tap_and_back(wire: Wire, pod: PodNamespace) -> None:
    wire.cable("eth0", Wire.ADDRESSES, Wire.WORLD)
    (eth0,) = pod.scan().interfaces
    tap = pod.join(eth0.link)
    assert "kata-" not in "".join(names(pod.scan()))
    frame = bytes.fromhex("ffffffffffff 020000000001 88b5".replace(" ", "")) + b"from the world".ljust(50, b"\0")
    with raw_socket(wire.world, "v-eth0") as world:
        world.send(frame)
        assert received(lambda: os.read(tap, 65536)[10:], frame)  # behind the header of virtio-net
        answer = bytes.fromhex("ffffffffffff 020000000002 88b5".replace(" ", "")) + b"from the guest".ljust(50, b"\0")
        os.write(tap, bytes(10) + answer)
        assert received(lambda: world.recv(65536), answer)
    os.close(tap)


def raw_socket(namespace: Namespace, interface: str) -> socket.socket:
    made = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW)
    made.bind((interface, 0x0003))
    made.setblocking(False)
    return made


def received(read: Callable[[], bytes], frame: bytes) -> bool:
    """Other packets may come first: the kernels announce themselves."""

    def look() -> bool:
        with contextlib.suppress(BlockingIOError, TimeoutError):
            while True:
                if read() == frame:
                    return True
        return False

    return wait_for("the frame arrives", look, 60)


def test_parting_leaves_nothing_and_an_interface_may_be_gone(wire: Wire, pod: PodNamespace) -> None:
    wire.cable("eth0", (), ())
    wire.cable("eth1", (), ())
    taps = [pod.join(i.link) for i in pod.scan().interfaces]
    assert wire.pod.redirections().count("ingress") == 4
    for tap in taps:
        os.close(tap)
    wire.world.ip("link", "del", "v-eth1")
    warnings: list[str] = []
    for index in (i.link.ifindex for i in pod.scan().interfaces):
        pod.part(index, warnings.append)
    assert warnings == []
    assert wire.pod.redirections() == ""


def test_an_ingress_qdisc_of_somebody_else_stays(wire: Wire, pod: PodNamespace) -> None:
    wire.cable("eth0", (), ())
    wire.pod.tc("qdisc", "add", "dev", "eth0", "ingress")
    wire.pod.tc("filter", "add", "dev", "eth0", "parent", "ffff:", "prio", "9", "u32", "match", "u32", "0", "0")
    (eth0,) = pod.scan().interfaces
    os.close(pod.join(eth0.link))
    pod.part(eth0.link.ifindex, lambda _: None)
    assert "ingress" in wire.pod.redirections()
    filters = wire.pod.tc("filter", "show", "dev", "eth0", "parent", "ffff:")
    assert "pref 9" in filters
    assert "mirred" not in filters


_DYING = """
import os, sys
from katapy.network.pod import PodNamespace
pod = PodNamespace(sys.argv[1], sys.argv[2])
for interface in pod.scan().interfaces:
    pod.join(interface.link)
os.kill(os.getpid(), 9)
"""


def die_joined(wire: Wire, record: Path) -> None:
    """A process that joins everything and is killed."""
    done = subprocess.run([sys.executable, "-c", _DYING, str(wire.pod.path), str(record)], env={"PYTHONPATH": "."})
    assert done.returncode == -9


def test_what_a_killed_process_left_is_removed_by_its_record(wire: Wire, tmp_path: Path) -> None:
    wire.cable("eth0", (), ())
    die_joined(wire, tmp_path / "network")
    assert wire.pod.links() == ["eth0"]
    assert wire.pod.redirections()
    warnings: list[str] = []
    leftovers.remove(str(tmp_path / "network"), warnings.append)
    assert warnings == []
    assert wire.pod.redirections() == ""


def test_a_record_of_a_namespace_that_is_gone_is_fine(wire: Wire, tmp_path: Path) -> None:
    wire.cable("eth0", (), ())
    die_joined(wire, tmp_path / "network")
    wire.pod.close()
    warnings: list[str] = []
    leftovers.remove(str(tmp_path / "network"), warnings.append)
    Namespace(wire.pod.name)  # another one of the same name
    wire.cable("eth1", (), ())
    wire.pod.tc("qdisc", "add", "dev", "eth1", "ingress")
    leftovers.remove(str(tmp_path / "network"), warnings.append)
    assert warnings == []
    assert wire.pod.redirections()


@pytest.mark.parametrize("content", ["", "/run/netns/x", "/dev/null\n1 2\n3", "/dev/null\n1 2\nx", "\0\n\n"])
def test_a_damaged_record_is_at_most_a_warning(tmp_path: Path, content: str) -> None:
    (tmp_path / "network").write_text(content)
    leftovers.remove(str(tmp_path / "network"), lambda _: None)


def test_the_kernels_own_words_are_in_the_error(wire: Wire, pod: PodNamespace) -> None:
    fd = netns.open_namespace(str(wire.pod.path))
    with namespaces.entered("network", fd):
        netlink = Netlink()
    os.close(fd)
    with netlink, pytest.raises(OSError, match=r"MTU|mtu"):
        rtnetlink.set_link(netlink, 1, mtu=3_000_000_000)


def test_a_tap_follows_a_small_mtu_and_a_change_of_it(wire: Wire, pod: PodNamespace) -> None:
    """Below 1280 bytes the kernel has no IPv6 on an interface."""
    wire.cable("eth0", (), (), "mtu", "1000")
    (eth0,) = pod.scan().interfaces
    tap = pod.join(eth0.link)
    (name,) = (name for name in wire.pod.links() if name.startswith("kata-"))
    assert "mtu 1000" in wire.pod.ip("link", "show", name)
    pod.follow_mtu(eth0.link._replace(mtu=1200))
    assert "mtu 1200" in wire.pod.ip("link", "show", name)
    os.close(tap)


def test_a_record_that_can_not_be_written_is_an_error_before_anything_is_joined(wire: Wire, tmp_path: Path) -> None:
    wire.cable("eth0", (), ())
    opened = PodNamespace(str(wire.pod.path), str(tmp_path / "absent/network"))
    (eth0,) = opened.scan().interfaces
    with pytest.raises(HostError, match="no such file"):
        opened.join(eth0.link)
    opened.close(lambda _: None)
    assert wire.pod.links() == ["eth0"]
    assert wire.pod.redirections() == ""
