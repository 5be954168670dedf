"""PodDisks: one disk for all who ask for the same device, gone with the last; a guest that lies about it."""

import asyncio
import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from katapy.agent_client.client import AgentClient
from katapy.errors import AgentError, HypervisorError, KatapyError
from katapy.hypervisor.vm import Vm
from katapy.sandbox import disks as disks_module
from katapy.sandbox.blocks import BlockPlan
from katapy.sandbox.disks import GuestDisk, PodDisks

LOOP0 = BlockPlan("/dev/loop0", 7, 0, False, "rw")
LOOP1 = BlockPlan("/dev/loop1", 7, 1, False, "rw")


class Machine:
    """Machine and agent at once, in memory."""

    def __init__(self, **says: Any) -> None:
        self.disks: list[str] = []
        self.says = {"name": "vdb", "major": 254, "minor": 16, **says}
        self.keeps = False

    async def plug_disk(self, fd: int, readonly: bool) -> str:
        self.disks.append(f"disk-{len(self.disks) + 1}")
        return self.disks[-1]

    async def unplug_disk(self, disk: str) -> None:
        if self.keeps:
            raise HypervisorError("it keeps it")
        self.disks.remove(disk)

    async def find_disk(self, serial: str) -> Any:
        return SimpleNamespace(**self.says)


@pytest.fixture(autouse=True)
def no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real ones take root (tests/vm/test_block_devices.py)."""

    def open_null(path: str, major: int, minor: int, readonly: bool) -> tuple[int, bool]:
        return os.open("/dev/null", os.O_RDONLY), readonly

    monkeypatch.setattr(disks_module, "open_block", open_null)


def test_one_disk_for_two_containers() -> None:
    async def run() -> None:
        machine = Machine()
        disks, agent = PodDisks(cast(Vm, machine)), cast(AgentClient, machine)
        for container in ("a", "b"):
            found = await disks.attach(agent, container, [LOOP0])
            assert found == {(7, 0, False): GuestDisk("vdb", 254, 16)}
        await disks.attach(agent, "b", [LOOP0, LOOP1])
        assert machine.disks == ["disk-1", "disk-2"]
        await disks.detach("a")
        assert machine.disks == ["disk-1", "disk-2"]
        await disks.detach("b")
        assert machine.disks == []

    asyncio.run(run())


def test_all_disks_of_a_container_go_at_once() -> None:
    """Else a delete of one that has many would take too long, and end the pod's machine."""

    class Slow(Machine):
        async def unplug_disk(self, disk: str) -> None:
            self.disks.remove(disk)
            if not self.disks:
                none_left.set()
            await none_left.wait()

    async def run() -> None:
        machine = Slow()
        disks = PodDisks(cast(Vm, machine))
        await disks.attach(cast(AgentClient, machine), "a", [LOOP0, LOOP1])
        await asyncio.wait_for(disks.detach("a"), 5)

    none_left = asyncio.Event()
    asyncio.run(run())


@pytest.mark.parametrize(
    "lie", [{"name": "../../x"}, {"name": "vda/../x"}, {"name": ""}, {"major": 5000}, {"minor": 1 << 21}]
)
def test_a_lie_is_an_error_and_leaves_no_disk(lie: dict[str, Any]) -> None:
    machine = Machine(**lie)
    with pytest.raises(AgentError):
        asyncio.run(PodDisks(cast(Vm, machine)).attach(cast(AgentClient, machine), "a", [LOOP0]))
    assert machine.disks == []


def test_a_guest_that_keeps_a_disk_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        machine = Machine()
        disks = PodDisks(cast(Vm, machine))
        await disks.attach(cast(AgentClient, machine), "a", [LOOP0])
        machine.keeps = True
        await disks.detach("a")

    asyncio.run(run())
    assert "it keeps it" in caplog.text


def test_what_a_failure_leaves_is_taken_away_by_detach() -> None:
    async def run() -> None:
        machine = Machine()
        disks, agent = PodDisks(cast(Vm, machine)), cast(AgentClient, machine)

        async def fails(serial: str) -> Any:
            if serial == "disk-2":
                raise HypervisorError("gone")
            return SimpleNamespace(**machine.says)

        machine.find_disk = fails  # type: ignore[method-assign]
        with pytest.raises(KatapyError):
            await disks.attach(agent, "a", [LOOP0, LOOP1])
        await disks.detach("a")
        assert machine.disks == []

    asyncio.run(run())
