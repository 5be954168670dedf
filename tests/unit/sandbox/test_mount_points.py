"""Which mount points are made on the host for a user namespace."""

import time
from typing import Any

import pytest

from katapy.sandbox.mount_points import plan_mount_points
from katapy.sandbox.sources import Source, SourceKind
from katapy.storage.mount_points import MountPoints

MAPPINGS = [{"containerID": 1, "hostID": 0, "size": 9}, {"containerID": 0, "hostID": 100_000, "size": 1}]
LINUX: dict[str, Any] = {"namespaces": [{"type": "user"}], "uidMappings": MAPPINGS, "gidMappings": MAPPINGS}
MOUNTS = [
    {"destination": "/proc", "type": "proc"},
    {"destination": "/proc/sys/kernel/x", "type": "bind"},
    {"destination": "run/", "type": "tmpfs"},
    {"destination": "/etc/hosts", "type": "bind"},
    {"destination": "/running/../d", "type": "bind"},
    {"destination": "/"},
]
SOURCES = {3: Source(SourceKind.FILE, "/h"), 4: Source(SourceKind.DIRECTORY, "/d")}


def test_those_in_the_root_file_system_itself() -> None:
    spec = {"mounts": MOUNTS, "linux": LINUX}
    assert plan_mount_points(spec, SOURCES) == MountPoints(("/proc", "/run", "/d"), ("/etc/hosts",), 100_000, 100_000)


@pytest.mark.parametrize("change", [{"namespaces": []}, {"uidMappings": []}, {"gidMappings": MAPPINGS[:1]}])
def test_none_without_a_root_of_a_user_namespace(change: dict[str, object]) -> None:
    assert plan_mount_points({"mounts": MOUNTS, "linux": LINUX | change}, SOURCES) is None


def test_any_number_of_mounts_is_planned_soon() -> None:
    """Fifty thousand took minutes where each was held against all others."""
    mounts = [{"destination": f"/{n // 100}/{n}"} for n in range(50_000)]
    started = time.monotonic()
    found = plan_mount_points({"mounts": mounts, "linux": LINUX}, {})
    assert time.monotonic() - started < 5
    assert found is not None
    assert len(found.directories) == 50_000
