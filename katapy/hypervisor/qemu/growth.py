"""A machine that grows and shrinks while it runs: processors are plugged in one by one, memory is one virtio-mem
device, of which the guest takes as much as it is offered. Supervisor only.

virtio-mem, because it goes in steps and back again, needs no slots on the command line of the template, and is one
region of memory for virtiofsd. It is plugged in when a machine first grows.

QEMU asks a guest not to touch what it was not given, and does not keep it from that: the host's bound does
(linux/bounded_memory). A guest that stores beyond it ends its machine by SIGBUS.
"""

import contextlib
import errno

from katapy.errors import HypervisorError, errno_text
from katapy.hypervisor.qemu.devices import MEMORY_SLOT
from katapy.hypervisor.qemu.memory import MIB
from katapy.hypervisor.qemu.qmp import QmpChannel, uncut
from katapy.hypervisor.vm import Size, VmSpec
from katapy.linux.bounded_memory import BoundedMemory

_BLOCK_MIB = 2
"""What virtio-mem is divided into."""
_BACKEND, _DEVICE = "more-memory", "more-memory-device"

_Place = dict[str, object]
"""One entry of query-hotpluggable-cpus."""


class Growth:
    """Of one machine, which was started as `spec` says. Not for concurrent use."""

    def __init__(self, qmp: QmpChannel, spec: VmSpec) -> None:
        self._qmp = qmp
        self._spec = spec
        self._cpus: list[str] = []
        self._memory_mib = 0
        self._memory: BoundedMemory | None = None

    def close(self) -> None:
        """Idempotent."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    async def resize(self, size: Size) -> None:
        """Within what the command line has left room for; a cancellation waits for it.

        Raises HypervisorError, Timeout.
        """
        await uncut(self._resize(size))

    async def _resize(self, size: Size) -> None:
        await self._set_memory(size.memory_mib - self._spec.memory_mib)
        while len(self._cpus) < size.vcpus - self._spec.vcpus:
            await self._add_cpu()
        while len(self._cpus) > max(0, size.vcpus - self._spec.vcpus):
            await self._qmp.remove_device(self._cpus[-1])
            self._cpus.pop()

    async def size(self) -> Size:
        """What is plugged in, by QEMU's word; from now on the guest can have no more. Raises HypervisorError."""
        plugged = 0
        if self._memory is not None:
            plugged = await self._plugged_mib()
            _bound(self._memory, max(plugged, self._memory_mib))
        return Size(self._spec.vcpus + len(self._cpus), self._spec.memory_mib + plugged)

    async def _set_memory(self, more_mib: int) -> None:
        wanted = max(0, min(more_mib, self._spec.max_memory_mib - self._spec.memory_mib))
        if wanted == self._memory_mib:
            return
        if self._memory is None:
            await self._add_memory(wanted)
        else:
            if wanted > self._memory_mib:
                _bound(self._memory, max(wanted, await self._plugged_mib()))
            await self._request(wanted)
        self._memory_mib = wanted

    async def ask_again(self) -> None:
        """Has the guest try at once to give back what it could not. By itself Linux does so after half a minute, then
        ever more seldom (6.12, drivers/virtio/virtio_mem.c). QEMU tells it of a size only if that is another one."""
        if self._memory is not None:
            await self._request(self._memory_mib + _BLOCK_MIB)
            await self._request(self._memory_mib)

    async def _request(self, mib: int) -> None:
        place = {"path": f"/machine/peripheral/{_DEVICE}", "property": "requested-size"}
        await self._qmp.execute("qom-set", {**place, "value": mib * MIB})

    async def _add_memory(self, mib: int) -> None:
        """The device, of all the memory there can ever be; it costs what the guest uses of it."""
        room = (self._spec.max_memory_mib - self._spec.memory_mib) * MIB
        try:
            memory = BoundedMemory(room, mib * MIB)
        except OSError as e:
            raise HypervisorError(f"memory to grow by: {errno_text(e)}") from e
        device = {"driver": "virtio-mem-pci", "id": _DEVICE, "memdev": _BACKEND, "bus": MEMORY_SLOT}
        try:
            await self._add_backend(memory.fd, room)
            await self._qmp.execute("device_add", {**device, "requested-size": mib * MIB})
        except BaseException:
            memory.close()
            with contextlib.suppress(HypervisorError):
                await self._qmp.execute("object-del", {"id": _BACKEND})
            raise
        self._memory = memory

    async def _add_backend(self, fd: int, size: int) -> None:
        """QEMU opens the file anew, and needs our copy no longer."""
        added = await self._qmp.add_descriptor(fd)
        backend = {"qom-type": "memory-backend-file", "id": _BACKEND, "size": size, "share": True, "reserve": False}
        try:
            await self._qmp.execute("object-add", {**backend, "mem-path": f"/proc/self/fd/{added.fd}"})
        finally:
            await self._qmp.execute("remove-fd", {"fdset-id": added.fdset})

    async def _plugged_mib(self) -> int:
        answer = await self._qmp.execute("query-memory-devices")
        found = [d.get("data", {}) for d in answer if isinstance(d, dict)] if isinstance(answer, list) else []
        return sum(int(d.get("size", 0)) for d in found if d.get("id") == _DEVICE) // MIB

    async def _add_cpu(self) -> None:
        place = next(iter(await self._free_places()), None)
        if place is None:
            raise HypervisorError(f"no place for another processor: the machine has {self._spec.max_vcpus}")
        cpu = f"cpu-{len(self._cpus) + 1}"
        properties = place["props"]
        assert isinstance(properties, dict)
        await self._qmp.execute("device_add", {"driver": place["type"], "id": cpu, **properties})
        self._cpus.append(cpu)

    async def _free_places(self) -> list[_Place]:
        """By their numbers, lowest first."""
        answer = await self._qmp.execute("query-hotpluggable-cpus")
        places = [p for p in answer if isinstance(p, dict)] if isinstance(answer, list) else []
        free = [p for p in places if "qom-path" not in p and isinstance(p.get("props"), dict)]
        return sorted(free, key=lambda p: sorted(p["props"].items()))


def _bound(memory: BoundedMemory, mib: int) -> None:
    """Raises HypervisorError. While a guest still uses more than it should, it keeps the bound it has."""
    try:
        memory.bound(mib * MIB)
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise HypervisorError(f"bound of the memory to grow by: {errno_text(e)}") from e
