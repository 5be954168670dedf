"""What a runtime may leave behind, as snapshots that are compared: before a test, and after it. Runs in pytest.

Looked at: descendants of pytest (a subreaper) and whatever names a test's folder or token; mounts, cgroups, named
network namespaces, taps, unix sockets, files below the state root. Other people's processes on this machine are not
ours to judge, so what can't be tied to a descendant must carry the token.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from framework import network, processes
from framework.wait import wait_for

_GRACE_S = 3.0
_STORAGE = "/podman/root/overlay"
"""Podman's folder of layers: it mounts and unmounts it as it likes, and its tests' fixture has the last word."""
CGROUPS = Path("/sys/fs/cgroup")
NETNS = Path("/run/netns")


@dataclass(frozen=True, slots=True)
class Scope:
    """What belongs to the tests.

    token: part of every id, cgroup and state root. root: where state roots lie. bundles: above all bundles and volumes.
    """

    token: str
    root: Path
    bundles: Path

    def owns(self, text: str) -> bool:
        return self.token in text or f"{self.bundles}/" in text


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Kind of resource -> what tells one of them from the others -> what to say of it in the report."""

    found: dict[str, dict[str, str]] = field(default_factory=dict)

    def left(self, before: "Snapshot") -> list[str]:
        """What is here and was not before: `kind: what`."""
        return [
            f"{kind}: {what}"
            for kind, now in self.found.items()
            for key, what in sorted(now.items())
            if key not in before.found.get(kind, {})
        ]


def take(scope: Scope) -> Snapshot:
    """Looks at everything. Zombies that were reparented to us are reaped first."""
    processes.reap_orphans()
    return Snapshot(
        {
            "process": _processes(scope),
            "mount": _mounts(scope),
            "cgroup": _cgroups(scope),
            "network namespace": _names(NETNS),
            "tap": _taps(),
            "unix socket": _sockets(scope),
            "file": _files(scope),
        }
    )


def check(scope: Scope, before: Snapshot) -> None:
    """Fails, naming what was left, unless all of it goes away within a few seconds."""
    left: list[str] = []

    def nothing_left() -> bool:
        left[:] = take(scope).left(before)
        return not left

    try:
        wait_for("nothing is left behind", nothing_left, _GRACE_S)
    except AssertionError:
        raise AssertionError("left behind:\n  " + "\n  ".join(left)) from None


def _plain(found: Iterable[str]) -> dict[str, str]:
    return {what: what for what in found}


def _processes(scope: Scope) -> dict[str, str]:
    ours = {p.pid: p for p in processes.descendants(os.getpid())}
    for process in processes.all_processes().values():
        if (
            process.pid != os.getpid()
            and process.state not in "ZX"
            and (scope.owns(process.command) or _in_cgroup(process.pid, scope))
        ):
            ours[process.pid] = process
    return {f"{p.pid} {p.start}": f"{p.pid} {p.command[:300]}" for p in ours.values()}


def _in_cgroup(pid: int, scope: Scope) -> bool:
    try:
        return scope.token in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:  # it has ended
        return False


def _mounts(scope: Scope) -> dict[str, str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return _plain(
        line.split(" ", 2)[2] for line in lines if scope.owns(line) and not line.split()[4].endswith(_STORAGE)
    )


def _cgroups(scope: Scope) -> dict[str, str]:
    return _plain(folder for folder, _, _ in os.walk(CGROUPS) if scope.token in folder)


def _sockets(scope: Scope) -> dict[str, str]:
    paths = (line.split(" ", 8)[-1].split()[-1] for line in Path("/proc/net/unix").read_text().splitlines())
    return _plain(p for p in paths if scope.owns(p))


def _taps() -> dict[str, str]:
    """Asked of the kernel: /sys/class/net shows the network namespace that /sys was mounted in."""
    listed = network.run("ip", "-json", "link", "show", "type", "tun")
    return _plain(link["ifname"] for link in json.loads(listed or "[]"))


def _names(folder: Path) -> dict[str, str]:
    return _plain(os.listdir(folder)) if folder.is_dir() else {}


def _files(scope: Scope) -> dict[str, str]:
    """State directories and what else lies in a state root, plus shared memory with the token in its name."""
    state = (f"{p}" for p in scope.root.glob("*/*"))
    shm = (f"/dev/shm/{name}" for name in os.listdir("/dev/shm") if scope.token in name)
    return _plain([*state, *shm])
