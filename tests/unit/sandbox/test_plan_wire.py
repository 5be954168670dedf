"""What a supervisor reads is what `create` has planned."""

import json

import pytest

from katapy.errors import KatapyError
from katapy.sandbox import plan_wire
from katapy.sandbox.plan import plan_container
from katapy.sandbox.sources import Memory, Source, SourceKind

SPEC = {
    "ociVersion": "1.1.0",
    "root": {"path": "rootfs"},
    "hostname": "hö",
    "process": {"args": ["true"], "cwd": "/", "terminal": True, "consoleSize": {"width": 80, "height": 25}},
    "mounts": [
        {"destination": "/d", "source": "/s", "options": ["rbind", "rro"]},
        {"destination": "/dev/shm", "source": "/m", "options": ["bind"]},
    ],
    "linux": {"namespaces": [{"type": "network"}, {"type": "ipc", "path": "/proc/7/ns/ipc"}], "cgroupsPath": "/x"},
    "annotations": {"a": "b"},
}
SHM = Source(SourceKind.MEMORY, "/m", Memory("1-2", 4096, 0o1777, 0, 0, False))
PLAN = plan_container("c1", "/b", SPEC, {0: Source(SourceKind.DIRECTORY, "/s"), 1: SHM}, {"ipc": "c0"})


def test_there_and_back() -> None:
    assert plan_wire.decode(plan_wire.encode(PLAN)) == PLAN


def test_a_joined_namespace_is_the_agents_handle() -> None:
    namespaces = json.loads(PLAN.spec_json)["linux"]["namespaces"]
    assert {"type": "ipc", "path": "/run/katapy/ns/c0/ipc"} in namespaces


@pytest.mark.parametrize("change", [{"id": "../x"}, {"binds": [1]}, {"console_size": [1]}, {"spec_json": 3}])
def test_what_is_no_plan_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(KatapyError):
        plan_wire.decode(json.dumps({**json.loads(plan_wire.encode(PLAN)), **change}))


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", "null"])
def test_nor_is_garbage(text: str) -> None:
    with pytest.raises(KatapyError):
        plan_wire.decode(text)
