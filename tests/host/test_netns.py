"""Looking into network namespaces of the host, with real ones."""

import subprocess
from collections.abc import Iterator

import pytest

from katapy.errors import HostError, Unsupported
from katapy.network.netns import interfaces, refuse_interfaces


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"katapy-test-{abs(hash(request.node.name)) % 10**8}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


def test_an_empty_namespace_has_lo(namespace: str) -> None:
    assert interfaces(f"/run/netns/{namespace}") == ["lo"]
    refuse_interfaces(f"/run/netns/{namespace}")


def test_an_interface_is_refused_and_named(namespace: str) -> None:
    subprocess.run(["ip", "-n", namespace, "link", "add", "eth7", "type", "bridge"], check=True)
    with pytest.raises(Unsupported, match="network interface eth7"):
        refuse_interfaces(f"/run/netns/{namespace}")


def test_what_is_no_namespace_is_an_error() -> None:
    with pytest.raises(HostError, match="/dev/null"):
        interfaces("/dev/null")
    with pytest.raises(HostError, match="no such file"):
        interfaces("/run/netns/katapy-absent")
