"""A container of a guest that holds up: the end of a process that was killed, the start of an exec."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from katapy.agent_client.client import AgentClient
from katapy.errors import Timeout
from katapy.protocol import agent_pb2 as pb
from katapy.sandbox import container as container_module
from katapy.sandbox.container import Attachment, Container, GuestProcess
from katapy.sandbox.lifecycle import Status
from katapy.sandbox.plan import ContainerPlan

TICK_S = 0.01


class Pump:
    """Of a process that does not end, whose reader holds the writer up at every look. `grows`: bytes from one look to
    the next."""

    held_up = True

    def __init__(self, grows: int) -> None:
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._grows, self._received, self.looks = grows, 0, 0

    @property
    def received(self) -> int:
        self.looks += 1
        self._received += self._grows
        return self._received


def killed(pump: Pump) -> Container:
    plan = cast(ContainerPlan, SimpleNamespace(id="c", demand=None))
    container = Container(plan, cast(AgentClient, None), lambda _: None)
    container.init = cast(GuestProcess, cast(Any, SimpleNamespace(pump=pump)))
    return container


def test_output_without_end_comes_from_no_dead_process() -> None:
    async def run() -> None:
        pump = Pump(grows=container_module._LAST_WORDS // 4)
        async with asyncio.timeout(20):
            assert not await killed(pump).dies(TICK_S)
        assert pump.looks > 4

    asyncio.run(run())


def test_a_reader_that_does_not_read_is_waited_for() -> None:
    async def run() -> None:
        pump = Pump(grows=0)
        dies = asyncio.create_task(killed(pump).dies(TICK_S))
        async with asyncio.timeout(20):
            while pump.looks < 10:
                await asyncio.wait([dies], timeout=TICK_S)
        assert not dies.done()
        pump.exited.set_result(0)
        assert await dies

    asyncio.run(run())


@pytest.mark.parametrize("held_up", [True, False])
def test_one_that_ends_has_ended(held_up: bool) -> None:
    async def run() -> None:
        pump = Pump(grows=0)
        pump.held_up = held_up
        pump.exited.set_result(0)
        assert await killed(pump).dies(TICK_S)

    asyncio.run(run())


class SilentPump:
    """Of an exec that has started, with a guest that takes no size of a terminal. As StdioPump is made."""

    cancelled = False

    def __init__(self, *_: object) -> None:
        self.started: asyncio.Future[pb.ExecReply] = asyncio.get_running_loop().create_future()
        self.started.set_result(pb.ExecReply())

    async def resize_to_terminal(self) -> None:
        await asyncio.Event().wait()

    def cancel(self) -> None:
        SilentPump.cancelled = True


def test_an_exec_whose_terminal_the_guest_holds_up_fails_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_module, "StdioPump", SilentPump)

    async def run() -> None:
        agent = AgentClient.__new__(AgentClient)  # without a channel: nothing is called
        agent._request_s = TICK_S
        plan = cast(ContainerPlan, SimpleNamespace(id="c", demand=None, process={"args": ["sh"], "cwd": "/"}))
        container = Container(plan, agent, lambda _: None)
        container.status = Status.RUNNING
        attachment = cast(Attachment, SimpleNamespace(take_stdio=lambda: None))
        async with asyncio.timeout(20):
            with pytest.raises(Timeout, match="to start a process"):
                await container.exec({"flags": {"args": ["sh"], "tty": True}}, attachment)
        assert container.execs == {}
        assert SilentPump.cancelled

    asyncio.run(run())
