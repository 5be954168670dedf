"""The block devices of a pod's containers: disks of its machine, plugged in when a container asks. Supervisor only.

Containers that ask for the same device get the same disk, so that what one has written the other reads.
"""

import asyncio
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from katapy.agent_client.client import AgentClient
from katapy.errors import AgentError, KatapyError
from katapy.hypervisor.vm import Vm
from katapy.sandbox.blocks import BlockPlan
from katapy.storage.block_device import open_block

log = logging.getLogger(__name__)

_NAME = re.compile(r"vd[a-z]{1,3}")
_MAX_MAJOR, _MAX_MINOR = 4095, 2**20 - 1

Key = tuple[int, int, bool]
"""The host's number, and whether it is read-only."""


@dataclass(frozen=True, slots=True)
class GuestDisk:
    """What a device of the host is in the guest, which says so itself: a name below /dev, and its number."""

    name: str
    major: int
    minor: int


Disks = Mapping[Key, GuestDisk]


def key_of(plan: BlockPlan) -> Key:
    return plan.major, plan.minor, plan.readonly


@dataclass(slots=True)
class _Plugged:
    id: str
    guest: GuestDisk
    users: set[str] = field(default_factory=set)


class PodDisks:
    """Those of one machine."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self._plugged: dict[Key, _Plugged] = {}
        self._turn = asyncio.Lock()

    async def attach(self, agent: AgentClient, container_id: str, wanted: Sequence[BlockPlan]) -> Disks:
        """All of them are in the guest then. Raises KatapyError; `detach` takes away what was plugged in."""
        async with self._turn:
            for plan in wanted:
                key = key_of(plan)
                if key not in self._plugged:
                    self._plugged[key] = await self._plug(agent, plan)
                self._plugged[key].users.add(container_id)
            return {key_of(plan): self._plugged[key_of(plan)].guest for plan in wanted}

    async def detach(self, container_id: str) -> None:
        """The container uses them no more. Never raises: a disk that the guest keeps goes with its machine.

        All at once: whoever deletes the container waits for as long as one takes (timeouts.kill_s).
        """
        async with self._turn:
            free = []
            for key, disk in list(self._plugged.items()):
                if container_id in disk.users:
                    disk.users.discard(container_id)
                    if not disk.users:
                        del self._plugged[key]
                        free.append(disk.id)
            await asyncio.gather(*(self._unplug(disk) for disk in free))

    async def _plug(self, agent: AgentClient, plan: BlockPlan) -> _Plugged:
        fd, readonly = open_block(plan.path, plan.major, plan.minor, plan.readonly)
        try:
            disk = await self._vm.plug_disk(fd, readonly)
        finally:
            os.close(fd)
        try:
            reply = await agent.find_disk(disk)
            return _Plugged(disk, _checked(GuestDisk(reply.name, reply.major, reply.minor)))
        except BaseException:
            await self._unplug(disk)
            raise

    async def _unplug(self, disk: str) -> None:
        try:
            await self._vm.unplug_disk(disk)
        except KatapyError as e:
            log.warning("%s: %s", disk, e)


def _checked(disk: GuestDisk) -> GuestDisk:
    """Raises AgentError for what is no disk: it becomes a path in the guest."""
    if not (_NAME.fullmatch(disk.name) and disk.major <= _MAX_MAJOR and disk.minor <= _MAX_MINOR):
        raise AgentError("the agent in the guest sent a disk that can't be one")
    return disk
