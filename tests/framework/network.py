"""Network namespaces for tests: a pod's, and one that plays the rest of the world, joined by cables. Runs in pytest.

Everything is private to the test: nothing is made in the host's own namespace.
"""

import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from framework.bundle import Spec
from katapy.linux import namespaces

RUN_NETNS = Path("/run/netns")
PING_S = 60


class Namespace:
    """A named network namespace, loopback up. `close` deletes it, and with it what is in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = RUN_NETNS / name
        run("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *args: str) -> str:
        return run("ip", "-n", self.name, *args)

    def tc(self, *args: str) -> str:
        return run("tc", "-n", self.name, *args)

    def exec(self, *args: str, timeout: float = PING_S) -> str:
        """A program in the namespace: its output. CalledProcessError unless it ends with 0."""
        return run("ip", "netns", "exec", self.name, *args, timeout=timeout)

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of the namespace, for use from here."""
        with open(self.path) as there, open("/proc/thread-self/ns/net") as here:
            namespaces.enter("network", there.fileno())
            try:
                made = socket.socket(family, kind)
            finally:
                namespaces.enter("network", here.fileno())
        made.settimeout(PING_S)
        return made

    def links(self) -> list[str]:
        """Names of its interfaces but `lo`."""
        lines = self.ip("-o", "link").splitlines()
        return sorted(name for line in lines if (name := line.split(": ")[1].split("@")[0]) != "lo")

    def redirections(self) -> str:
        """Ingress qdiscs and their filters, as tc tells them: empty when nothing is redirected."""
        qdiscs = [line for line in self.tc("qdisc").splitlines() if "ingress" in line or "clsact" in line]
        return "\n".join(qdiscs)

    def close(self) -> None:
        run("ip", "netns", "delete", self.name)


class Wire:
    """The pod's namespace and the world's, joined by a veth pair: `eth0` in the pod, `v-eth0` in the world."""

    ADDRESSES = ("10.77.0.2/24", "fd77::2/64")
    WORLD = ("10.77.0.1/24", "fd77::1/64")

    def __init__(self, token: str) -> None:
        self.world = Namespace(f"{token}-world")
        self.pod = Namespace(f"{token}-pod")

    def cable(self, name: str, addresses: Sequence[str], world: Sequence[str], *options: str) -> None:
        """A veth pair of which both ends are up. options: more of `ip link add` for the pod's end."""
        far = f"v-{name}"
        self.world.ip("link", "add", far, "type", "veth", "peer", "name", name, *options, "netns", self.pod.name)
        for namespace, link, own in ((self.world, far, world), (self.pod, name, addresses)):
            add_addresses(namespace, link, own)
            namespace.ip("link", "set", link, "up")

    def close(self) -> None:
        """A pod's namespace that the test has deleted is fine."""
        for namespace in (self.pod, self.world):
            if namespace.path.exists():
                namespace.close()


def add_addresses(namespace: Namespace, link: str, addresses: Sequence[str]) -> None:
    for address in addresses:
        namespace.ip("address", "add", address, "dev", link, *(["nodad"] if ":" in address else []))


def run(*argv: str, timeout: float = PING_S) -> str:
    """CalledProcessError, with what it said in the note, unless it ends with 0."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(argv)} -> {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def in_namespace(path: Path | None) -> Callable[[Spec], None]:
    """An `edit` for bundles: the network namespace of that path, or a new one, and the capabilities to look around."""

    def edit(spec: Spec) -> None:
        for namespace in spec["linux"]["namespaces"]:
            if namespace["type"] == "network" and path is not None:
                namespace["path"] = str(path)
        for kind in ("bounding", "effective", "permitted"):
            spec["process"]["capabilities"][kind] += ["CAP_NET_RAW", "CAP_NET_ADMIN"]

    return edit
