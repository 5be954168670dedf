"""What a lying agent can make of an exit status: a number from 0 to 255, once, of its own process."""

import asyncio

import pytest
from framework.besieged import STEP_S, besieged

from katapy.errors import HypervisorError, WrongStatus
from katapy.sandbox.lifecycle import Status
from katapy.supervisor import handlers

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize("attack, status", [("ExitsHuge", 255), ("ExitsHuger", 255), ("ExitsTwice", 3)])
def test_the_status_is_what_was_said_first_within_bounds(attack: str, status: int) -> None:
    async def scenario() -> None:
        async with besieged(attack) as host:
            process = await host.create()
            assert await process.status() == status
            assert host.sandbox.container("c1").exit_status == status
        assert host.accidents == []

    asyncio.run(scenario())


def test_a_stream_that_ends_without_a_status_is_never_a_success() -> None:
    async def scenario() -> None:
        async with besieged("ExitsWithoutAWord") as host:
            assert await (await host.create()).status() == 137

    asyncio.run(scenario())


def test_events_about_strangers_and_false_exits_change_nothing() -> None:
    async def scenario() -> None:
        async with besieged("ExitsOfStrangers") as host:
            await host.create()
            await host.ask("start")
            for _ in range(20):  # each answer comes after events that were sent before it
                await host.ask("stats")
            assert host.sandbox.container("c1").status is Status.RUNNING
            assert set(host.sandbox.containers) == {"c1"}
        assert host.accidents == []

    asyncio.run(scenario())


def test_output_after_the_end_does_not_hold_the_end_back() -> None:
    async def scenario() -> None:
        async with besieged("TalksAfterExit") as host:
            process = await host.create()
            assert await process.status() == 4  # and nobody has read a byte of its output

    asyncio.run(scenario())


def test_kill_and_state_agree_that_it_has_ended() -> None:
    """Engines look at the status when a signal is refused: `kill` waits until it is there, however slow the guest."""

    async def scenario() -> None:
        async with besieged("Silent", "DestroySandbox") as host:
            process = await host.create()
            await host.ask("start")
            await host.ask("kill", signal=9)
            async with asyncio.timeout(STEP_S):
                while host.sandbox.container("c1").status is not Status.STOPPED:
                    await asyncio.sleep(0)
            assert host.saved[-1][0] == "running"
            with pytest.raises(WrongStatus, match="container not running"):
                await host.ask("kill", signal=9)
            assert host.saved[-1] == ("stopped", 137)
            assert await process.status() == 137

    asyncio.run(scenario())


def test_the_guest_knows_first_that_it_has_ended() -> None:
    async def scenario() -> None:
        async with besieged("RefusesSignalsOfTheDead") as host:
            await host.create()
            await host.ask("start")
            with pytest.raises(WrongStatus, match="container not running"):
                await host.ask("kill", signal=9)
            assert host.saved[-1] == ("stopped", 137)

    asyncio.run(scenario())


def test_a_guest_that_refuses_signals_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "_END_S", 0.1)

    async def scenario() -> None:
        async with besieged("RefusesSignals") as host:
            await host.create()
            await host.ask("start")
            with pytest.raises(WrongStatus, match="process not running"):
                await host.ask("kill", signal=15)
            assert host.sandbox.container("c1").status is Status.RUNNING

    asyncio.run(scenario())


def test_a_machine_that_is_killed_is_told_from_an_agent_that_is_gone() -> None:
    """Also where the channel's end is noticed first."""

    async def scenario() -> None:
        async with besieged("Dies", "Stats") as host:
            await host.create()
            await host.ask("start")
            with pytest.raises(HypervisorError, match="the machine was killed"):
                await host.ask("stats")

    asyncio.run(scenario())
