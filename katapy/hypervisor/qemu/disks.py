"""Disks plugged into a machine that runs: a block device's descriptor becomes a virtio-blk device. Supervisor only.

Commands of QMP: add-fd (the descriptor travels beside it), blockdev-add, device_add; backwards with device_del, whose
end is an event. QEMU opens no path: /dev/fdset/N means the descriptor.
"""

import contextlib

from katapy.errors import HypervisorError
from katapy.hypervisor.qemu.qmp import QmpChannel, uncut
from katapy.hypervisor.qemu.slots import Slots


class Disks:
    """The disks of one machine, but for its image. Not for concurrent use."""

    def __init__(self, qmp: QmpChannel, slots: Slots) -> None:
        self._qmp = qmp
        self._slots = slots
        self._numbers = 0
        self._sets: dict[str, int] = {}

    async def plug(self, fd: int, readonly: bool) -> str:
        """A disk with the open block device `fd` behind it, which stays the caller's; its id is its serial number.

        A cancellation waits until it is there, and unplugs it. Raises HypervisorError.
        """
        return await uncut(self._plug(fd, readonly), self.unplug)

    async def _plug(self, fd: int, readonly: bool) -> str:
        self._numbers += 1
        disk = f"disk-{self._numbers}"
        with contextlib.ExitStack() as undo:
            slot = self._slots.take(disk)
            undo.callback(self._slots.release, disk)
            try:
                self._sets[disk] = (await self._qmp.add_descriptor(fd)).fdset
                await self._qmp.execute("blockdev-add", _node(disk, self._sets[disk], readonly))
                await self._qmp.execute("device_add", _device(disk, slot))
            except BaseException:
                await self._forget(disk)
                raise
            undo.pop_all()
        return disk

    async def unplug(self, disk: str) -> None:
        """Asks the guest to let it go, and waits. A guest that does not keeps disk and slot: Timeout.

        What the guest has written is in the device then. Raises HypervisorError.
        """
        await self._qmp.remove_device(disk)
        await self._qmp.execute("blockdev-del", {"node-name": disk})
        await self._qmp.execute("remove-fd", {"fdset-id": self._sets.pop(disk)})
        self._slots.release(disk)

    async def _forget(self, disk: str) -> None:
        """Of a plug that failed, as much as was done."""
        with contextlib.suppress(HypervisorError):
            await self._qmp.execute("blockdev-del", {"node-name": disk})
        if (fdset := self._sets.pop(disk, None)) is not None:
            with contextlib.suppress(HypervisorError):
                await self._qmp.execute("remove-fd", {"fdset-id": fdset})


def _node(disk: str, fdset: int, readonly: bool) -> dict[str, object]:
    """No lock: who may share a device is the engine's affair, as it is with any runtime."""
    return {
        "driver": "host_device",
        "node-name": disk,
        "filename": f"/dev/fdset/{fdset}",
        "read-only": readonly,
        "locking": "off",
        "discard": "unmap",
    }


def _device(disk: str, slot: str) -> dict[str, object]:
    return {
        "driver": "virtio-blk-pci",
        "id": disk,
        "drive": disk,
        "serial": disk,
        "bus": slot,
        "disable-legacy": "on",
        "share-rw": True,
    }
