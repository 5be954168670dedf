"""The size of a pod's machine: it grows with the limits of its containers, and shrinks when they go. Supervisor only.

A limit is no reservation, so a machine that can't grow as far as it should is a warning, as large a limit as no host
has is to runc.
"""

import asyncio
import logging

from katapy.agent_client.client import AgentClient
from katapy.errors import KatapyError
from katapy.hypervisor.vm import Accelerator, Size, Vm
from katapy.sandbox.demand import NO_DEMAND, Demand, grown_size, wanted_size
from katapy.sandbox.plan import SandboxPlan

log = logging.getLogger(__name__)

_GIVEN_BACK_S = 10.0
"""How long a guest may take to give memory back before it is asked again."""
_ASKED_AND_SAID = 2
"""How often it is asked before the log says that it keeps some."""
_MOST_S = 300.0
"""That time doubles up to this: what was in use goes, sooner or later."""
_EMULATED = " (an emulated one keeps the processors it started with)"


class PodSize:
    """Of one machine."""

    def __init__(self, vm: Vm, plan: SandboxPlan) -> None:
        self._vm = vm
        self._plan = plan
        self._size = self._boot = Size(plan.vcpus, plan.memory_mib)
        self._demands: dict[str, Demand] = {}
        """Of the containers that have some, by id."""
        self._turn = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._warned: set[str] = set()

    async def fit(self, agent: AgentClient, container_id: str, demand: Demand) -> None:
        """Gives the guest what its containers need together, of which this one needs `demand` from now on, or asks for
        what they don't. Never raises KatapyError: the log says why the machine has another size."""
        self._demands[container_id] = demand
        if demand == NO_DEMAND:
            del self._demands[container_id]
        async with self._turn:  # what others want by then counts
            size = self._wanted()
            if size == self._size:
                return
            try:
                await self._change(agent, size)
            except KatapyError as e:
                self._warn(f"the machine can't be changed to {_words(size)}: {e}")

    def _wanted(self) -> Size:
        most, boot, pod = self._plan.most, self._boot, self._plan.least
        least = Size(max(boot.vcpus, pod.vcpus), max(boot.memory_mib, pod.memory_mib))
        wanted = wanted_size(least, self._plan.reserve_mib, self._demands.values())
        if wanted.vcpus > most.vcpus or wanted.memory_mib > most.memory_mib:
            reason = _EMULATED if wanted.vcpus > most.vcpus and self._plan.facts.accelerator is Accelerator.TCG else ""
            self._warn(f"the containers' limits ask for {_words(wanted)}; a machine has {_words(most)} at most{reason}")
        return grown_size(boot, most, wanted)

    def close(self) -> None:
        """The machine has ended. Idempotent."""
        if self._looking is not None:
            self._looking.cancel()

    async def _change(self, agent: AgentClient, size: Size) -> None:
        """What fails is tried again when containers come or go."""
        before = self._size
        await self._vm.resize(size)
        if size.vcpus > before.vcpus or size.memory_mib > before.memory_mib:
            await agent.resize(size.vcpus, size.memory_mib - self._boot.memory_mib)
        self._size = size
        looking = self._looking is not None and not self._looking.done()
        if size.memory_mib < before.memory_mib or looking:
            self.close()
            self._looking = asyncio.create_task(self._look(size))

    async def _look(self, size: Size) -> None:
        """Asks until the guest has given back what it should; each time it can have no more than it has."""
        asked, wait_s = 0, _GIVEN_BACK_S
        while True:
            await asyncio.sleep(wait_s)
            try:
                async with self._turn:
                    kept = (await self._vm.size()).memory_mib - size.memory_mib
                    if kept <= 0:
                        return
                    await self._vm.ask_again()
            except KatapyError as e:
                log.warning("the machine's size is not known: %s", e)
                return
            asked += 1
            if asked == _ASKED_AND_SAID:
                log.warning("the guest keeps %d MiB that no container needs: they are in use, and can't be moved", kept)
            wait_s = min(_MOST_S, 2 * wait_s)

    def _warn(self, sentence: str) -> None:
        """Once each."""
        if sentence not in self._warned:
            self._warned.add(sentence)
            log.warning("%s", sentence)


def _words(size: Size) -> str:
    return f"{size.vcpus} processors and {size.memory_mib} MiB"
