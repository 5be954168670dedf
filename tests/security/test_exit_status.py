"""What a lying agent can make of an exit status: a number from 0 to 255, once, of its own process."""

import asyncio

import pytest
from framework.besieged import besieged

from katapy.sandbox.lifecycle import Status

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
