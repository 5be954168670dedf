"""A caller who is cancelled while QEMU plugs something in: it is there and is taken out again, or it is not.

And a guest that has taken it out itself.
"""

import asyncio
import json
import socket
from collections.abc import Coroutine, Mapping
from typing import Any, cast

import pytest

from katapy.errors import HypervisorError, Timeout
from katapy.hypervisor.qemu.disks import Disks
from katapy.hypervisor.qemu.nics import Nics
from katapy.hypervisor.qemu.qmp import Added, QmpChannel
from katapy.hypervisor.qemu.slots import Slots


class Qemu:
    """A channel to a QEMU that answers device_add late, whoever waits. `devices`: which bus each of them is on."""

    works: asyncio.Task[None]

    def __init__(self, refuses: bool = False, keeps: bool = False) -> None:
        self.devices: dict[str, str] = {}
        self.backends: set[str] = set()
        self.asked, self.answers = asyncio.Event(), asyncio.Event()
        self._refuses, self._keeps = refuses, keeps

    async def send_descriptor(self, name: str, fd: int) -> None: ...

    async def add_descriptor(self, fd: int) -> Added:
        return Added(1, 2)

    async def execute(self, command: str, arguments: Mapping[str, Any]) -> object:
        match command:
            case "blockdev-add" | "netdev_add":
                self.backends.add(arguments.get("node-name") or arguments["id"])
            case "blockdev-del" | "netdev_del":
                self.backends.remove(arguments.get("node-name") or arguments["id"])
            case "device_add":
                self.works = asyncio.create_task(self._add(arguments))
                await asyncio.shield(self.works)
        return {}

    async def _add(self, device: Mapping[str, Any]) -> None:
        self.asked.set()
        await self.answers.wait()
        if self._refuses:
            raise HypervisorError("qemu refused device_add")
        self.devices[device["id"]] = device["bus"]

    async def remove_device(self, device: str) -> None:
        if self._keeps:
            raise Timeout("the guest does not let go of it")
        del self.devices[device]


def plug(kind: type[Disks] | type[Nics], qemu: Qemu, slots: Slots) -> Coroutine[Any, Any, str]:
    channel = cast(QmpChannel, qemu)
    return Disks(channel, slots).plug(3, False) if kind is Disks else Nics(channel, slots).plug(3, "02:00:00:00:00:01")


async def cut(kind: type[Disks] | type[Nics], qemu: Qemu, slots: Slots) -> None:
    """Cancels the caller while QEMU works."""
    plugging = asyncio.create_task(plug(kind, qemu, slots))
    await qemu.asked.wait()
    plugging.cancel()
    await asyncio.sleep(0)
    qemu.answers.set()
    with pytest.raises(asyncio.CancelledError):
        await plugging
    await asyncio.wait([qemu.works])


@pytest.mark.parametrize("refuses", [False, True], ids=["added", "refused"])
@pytest.mark.parametrize("kind", [Disks, Nics])
def test_nothing_is_left_and_the_slot_is_free(kind: type[Disks] | type[Nics], refuses: bool) -> None:
    async def run() -> None:
        qemu, slots = Qemu(refuses), Slots(1)
        await cut(kind, qemu, slots)
        assert (qemu.devices, qemu.backends) == ({}, set())
        assert slots.take("another") == "slot-0"

    asyncio.run(run())


@pytest.mark.parametrize("kind", [Disks, Nics])
def test_a_guest_that_keeps_the_device_keeps_the_slot(kind: type[Disks] | type[Nics]) -> None:
    async def run() -> None:
        qemu, slots = Qemu(keeps=True), Slots(1)
        await cut(kind, qemu, slots)
        assert list(qemu.devices.values()) == ["slot-0"]
        with pytest.raises(HypervisorError, match="no free slot"):
            slots.take("another")

    asyncio.run(run())


async def refuse(end: socket.socket, kind: str) -> None:
    """QEMU's side of a control channel on which every command is an error of that class."""
    reader, writer = await asyncio.open_connection(sock=end)
    writer.write(b'{"QMP": {"version": {}, "capabilities": []}}\n')
    while text := await reader.read(4096):  # one command at a time, without a newline
        request = json.loads(text)
        answer = {"error": {"class": kind, "desc": "Device 'disk-1' ..."}, "id": request.get("id")}
        negotiates = request["execute"] == "qmp_capabilities"
        writer.write(json.dumps({"return": {}} if negotiates else answer).encode() + b"\n")
    writer.close()


def test_what_the_guest_has_taken_out_itself_is_gone() -> None:
    """It can switch slots off: the device's back end, and the host's disk, must not stay open for that."""

    async def run(kind: str) -> None:
        ours, theirs = socket.socketpair()
        qemu = asyncio.create_task(refuse(theirs, kind))
        channel = QmpChannel("agent")
        await channel.connect(ours)
        try:
            await channel.remove_device("disk-1")
        finally:
            await channel.close(0.0)
            await qemu

    asyncio.run(run("DeviceNotFound"))
    with pytest.raises(HypervisorError, match="refused device_del"):
        asyncio.run(run("GenericError"))
