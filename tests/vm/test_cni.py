"""CNI's own plug-ins (bridge, host-local, portmap) make the network, in a namespace that plays the host."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from framework.fixtures import BundleMaker, unavailable
from framework.leaks import Scope
from framework.network import Wire, in_namespace
from framework.runtime import Container, Runtime

pytestmark = pytest.mark.guest

PLUGINS = Path("/usr/lib/cni")
SLOW_S = 60.0
HOST_PORT = 8088
SERVER = ("nc", "-ll", "-p", "8080", "-e", "cat")


class Cni:
    """Adds and deletes one pod's interface, as an engine does."""

    def __init__(self, wire: Wire, folder: Path) -> None:
        self._wire = wire
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "dataDir": str(folder),
                "ranges": [[{"subnet": "10.79.0.0/24"}], [{"subnet": "fd79::/64"}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
        }
        portmap = {
            "type": "portmap",
            "capabilities": {"portMappings": True},
            "runtimeConfig": {"portMappings": [{"hostPort": HOST_PORT, "containerPort": 8080, "protocol": "tcp"}]},
        }
        self._chain: list[dict[str, Any]] = [bridge, portmap]
        self.result: dict[str, Any] = {}

    def add(self) -> None:
        for plugin in self._chain:
            self.result = json.loads(self._call("ADD", plugin))

    def delete(self) -> None:
        for plugin in reversed(self._chain):
            self._call("DEL", plugin)

    def _call(self, command: str, plugin: dict[str, Any]) -> str:
        document = {"cniVersion": "0.4.0", "name": "test", **plugin}
        if self.result:
            document["prevResult"] = self.result
        environment = os.environ | {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self._wire.pod.name,
            "CNI_NETNS": str(self._wire.pod.path),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(PLUGINS),
        }
        argv = ["nsenter", f"--net={self._wire.world.path}", str(PLUGINS / plugin["type"])]
        text = json.dumps(document)
        done = subprocess.run(argv, input=text, capture_output=True, text=True, env=environment, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed() -> None:
    missing = [str(p) for p in (PLUGINS / "bridge", PLUGINS / "portmap") if not p.exists()]
    missing += [] if shutil.which("iptables") else ["iptables"]
    if missing:
        unavailable(f"not installed: {missing}")


@pytest.fixture(scope="module")
def wire(installed: None, scope: Scope, no_leaks_of_the_module: None) -> Iterator[Wire]:
    made = Wire(f"{scope.token}-c")
    yield made
    made.close()


@pytest.fixture(scope="module")
def cni(wire: Wire, tmp_path_factory: pytest.TempPathFactory) -> Cni:
    made = Cni(wire, tmp_path_factory.mktemp("cni"))
    made.add()
    return made


@pytest.fixture(scope="module")
def box(cni: Cni, wire: Wire, module_runtime: Runtime, module_bundle: BundleMaker) -> Container:
    made = module_runtime.start(module_bundle(*SERVER, edit=in_namespace(wire.pod.path)))
    made.sh("until nc -w 20 127.0.0.1 8080 </dev/null; do sleep 0.1; done", timeout=SLOW_S + 30)
    return made


def test_the_guest_has_the_addresses_of_the_result(box: Container, cni: Cni) -> None:
    said = box.sh("ip addr show eth0")
    for entry in cni.result["ips"]:
        assert entry["address"] in said
    assert "default via 10.79.0.1 dev eth0" in box.sh("ip route")


def test_the_gateway_is_reached(box: Container) -> None:
    box.sh("ping -c 1 -W 20 10.79.0.1", timeout=SLOW_S)


def test_a_published_port_leads_into_the_guest(box: Container, wire: Wire) -> None:
    with wire.world.socket() as client:
        client.connect(("10.79.0.1", HOST_PORT))
        client.sendall(b"through the port map")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b"through the port map"


def test_deleting_the_interface_first_does_not_hold_the_container_back(box: Container, cni: Cni, wire: Wire) -> None:
    """As engines may do it when they stop a pod. The last test: it takes the network away."""
    cni.delete()
    assert "eth0" not in wire.pod.links()
    box.delete("--force")
    assert wire.pod.links() == []
