"""Network cards plugged into a machine that runs: a tap's descriptor becomes a virtio-net device. Supervisor only.

Commands of QMP: getfd (the descriptor travels beside it), netdev_add, device_add; backwards with device_del, whose end
is an event. No name of a descriptor stays behind in QEMU.
"""

import contextlib
import errno
import os

from katapy.errors import HostError, HypervisorError, errno_text
from katapy.hypervisor.qemu.qmp import QmpChannel, uncut
from katapy.hypervisor.qemu.slots import Slots

_VHOST_NET = "/dev/vhost-net"


class Nics:
    """The cards of one machine. Not for concurrent use."""

    def __init__(self, qmp: QmpChannel, slots: Slots) -> None:
        self._qmp = qmp
        self._slots = slots
        self._numbers = 0

    async def plug(self, tap: int, mac: str) -> str:
        """A card whose other end is `tap`, which stays the caller's; its id.

        A cancellation waits until it is there, and unplugs it. Raises HypervisorError.
        """
        return await uncut(self._plug(tap, mac), self.unplug)

    async def _plug(self, tap: int, mac: str) -> str:
        self._numbers += 1
        card = f"nic-{self._numbers}"
        slot = self._slots.take(card)
        try:
            await self._add_backend(card, tap)
            try:
                await self._qmp.execute("device_add", _device(card, mac, slot))
            except BaseException:
                with contextlib.suppress(HypervisorError):
                    await self._qmp.execute("netdev_del", {"id": f"{card}-tap"})
                raise
        except BaseException:
            self._slots.release(card)
            raise
        return card

    async def unplug(self, card: str) -> None:
        """Asks the guest to let it go, and waits. A guest that does not keeps card and slot: Timeout.

        Raises HypervisorError.
        """
        await self._qmp.remove_device(card)
        await self._qmp.execute("netdev_del", {"id": f"{card}-tap"})
        self._slots.release(card)

    async def _add_backend(self, card: str, tap: int) -> None:
        vhost = _open_vhost()
        descriptors = {"fd": tap} if vhost is None else {"fd": tap, "vhostfd": vhost}
        arguments: dict[str, object] = {"type": "tap", "id": f"{card}-tap", "vhost": vhost is not None}
        sent = []
        try:
            for member, fd in descriptors.items():
                await self._qmp.send_descriptor(f"{card}-{member}", fd)
                sent.append(f"{card}-{member}")
                arguments[member] = f"{card}-{member}"
            await self._qmp.execute("netdev_add", arguments)
        except BaseException:
            for name in sent:  # QEMU takes the names that it has used out of its list, and only those
                with contextlib.suppress(HypervisorError):
                    await self._qmp.execute("closefd", {"fdname": name})
            raise
        finally:
            if vhost is not None:
                os.close(vhost)


def _device(card: str, mac: str, slot: str) -> dict[str, object]:
    """No ROM: nobody boots from it, and QEMU's jail would have to show it the file."""
    return {
        "driver": "virtio-net-pci",
        "id": card,
        "netdev": f"{card}-tap",
        "mac": mac,
        "bus": slot,
        "romfile": "",
        "rx_queue_size": 1024,
    }


def _open_vhost() -> int | None:
    """The kernel's data path, where there is one: QEMU's user may not open it."""
    try:
        return os.open(_VHOST_NET, os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            return None
        raise HostError(f"can't open {_VHOST_NET}: {errno_text(e)}") from e
