"""The PCI Express slots that are empty when a machine starts, and who has which. Supervisor only."""

from katapy.errors import HypervisorError
from katapy.hypervisor.qemu.devices import HOTPLUG_PORTS


class Slots:
    """`slot-0` and up, as hotplug_ports made them, but for the last two: SHARE_SLOT, MEMORY_SLOT."""

    def __init__(self, count: int = HOTPLUG_PORTS - 2) -> None:
        self._free = [f"slot-{number}" for number in reversed(range(count))]
        self._taken: dict[str, str] = {}

    def take(self, device: str) -> str:
        """The id of a free slot's bus, for the device of that id. Raises HypervisorError if there is none."""
        if not self._free:
            raise HypervisorError(f"no free slot for another device: the machine has {len(self._taken)}")
        self._taken[device] = self._free.pop()
        return self._taken[device]

    def release(self, device: str) -> None:
        """The device is gone. KeyError if it had no slot."""
        self._free.append(self._taken.pop(device))
