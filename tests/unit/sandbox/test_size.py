"""PodSize: when the machine is changed, when the guest is waited for, and that failures are words in the log."""

import asyncio
import dataclasses
import logging
from typing import cast

import pytest
from framework.besieged import make_plan

from katapy.agent_client.client import AgentClient
from katapy.errors import HypervisorError
from katapy.hypervisor.vm import Size, Vm
from katapy.sandbox import size as size_module
from katapy.sandbox.demand import NO_DEMAND, Demand
from katapy.sandbox.size import PodSize

MOST = Size(4, 4096)


class Machine:
    """Machine and agent at once, in memory: `calls` is what was asked of them."""

    def __init__(self, fails: bool = False, gives_back: int = 1) -> None:
        """gives_back: how often it is asked again before it gives anything back."""
        self.calls: list[object] = []
        self.fails = fails
        self.has = self.wanted = Size(1, 512)
        self.gives_back = gives_back

    async def resize(self, *to: object) -> None:
        if self.fails:
            raise HypervisorError("no")
        self.calls.append(to)
        if isinstance(to[0], Size):
            self.wanted = to[0]
            self.has = Size(to[0].vcpus, max(self.has.memory_mib, to[0].memory_mib))

    async def size(self) -> Size:
        return self.has

    async def ask_again(self) -> None:
        self.gives_back -= 1
        if self.gives_back == 0:
            self.has = self.wanted


def fit(machine: Machine, *steps: dict[str, Demand], least: Size | None = None) -> None:
    """What one step names is asked for at once."""

    async def run() -> None:
        plan = dataclasses.replace(make_plan(), most=MOST, least=least or machine.has)
        sizes = PodSize(cast(Vm, machine), plan)
        for demands in steps:
            await asyncio.gather(*(sizes.fit(cast(AgentClient, machine), *wanted) for wanted in demands.items()))
        if sizes._looking is not None:
            await sizes._looking
        sizes.close()

    asyncio.run(run())


def test_it_grows_once_and_the_guest_is_waited_for() -> None:
    machine = Machine()
    fit(machine, {"a": NO_DEMAND}, {"a": Demand(memory_mib=512)}, {"a": Demand(memory_mib=500)})
    assert machine.calls == [(Size(1, 768),), (1, 256)]


def test_a_small_clone_becomes_what_its_pod_was_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_module, "_GIVEN_BACK_S", 0.0)
    machine = Machine()
    steps = {"a": NO_DEMAND}, {"b": Demand(memory_mib=500)}, {"b": Demand(memory_mib=1000)}, {"b": NO_DEMAND}
    fit(machine, *steps, least=Size(2, 1000))
    grown, larger = [(Size(2, 1024),), (2, 512)], [(Size(2, 1280),), (2, 768)]
    assert machine.calls == [*grown, *larger, (Size(2, 1024),)]


def test_two_at_once_get_what_both_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_module, "_GIVEN_BACK_S", 0.0)
    machine = Machine()
    fit(machine, {"a": Demand(memory_mib=512), "b": Demand(memory_mib=256)}, {"a": NO_DEMAND})
    assert machine.calls == [(Size(1, 768),), (1, 256), (Size(1, 1024),), (1, 512), (Size(1, 512),)]


@pytest.mark.parametrize("asked,said", [(1, 0), (2, 1), (5, 1)])
def test_it_shrinks_without_waiting_and_is_asked_until_it_has(
    asked: int, said: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(size_module, "_GIVEN_BACK_S", 0.0)
    machine = Machine(gives_back=asked)
    with caplog.at_level(logging.WARNING):
        fit(machine, {"a": Demand(memory_mib=512)}, {"a": NO_DEMAND})
    assert machine.calls == [(Size(1, 768),), (1, 256), (Size(1, 512),)]
    assert machine.gives_back == 0
    assert caplog.text.count("the guest keeps 256 MiB that no container needs") == said


def test_what_no_machine_has_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    with caplog.at_level(logging.WARNING):
        fit(machine, {"a": Demand(cpus=1000.0)}, {"b": Demand(cpus=1000.0)})
    assert machine.calls == [(Size(MOST.vcpus, 512),), (MOST.vcpus, 0)]
    assert caplog.text.count("the containers' limits ask for 1000 processors") == 1
    assert "4096 MiB at most (an emulated one keeps the processors it started with)" in caplog.text


def test_a_machine_that_cant_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fit(Machine(fails=True), {"a": Demand(cpus=2.0)})
    assert "can't be changed to 2 processors and 512 MiB: no" in caplog.text
