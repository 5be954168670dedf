"""A guest that sends without end, or more than is good: memory stays bounded and others are still served.

The figure is the growth of this process's peak, which holds the host side; the agent is a process of its own.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile

import pytest
from framework.besieged import IMPATIENT, besieged
from framework.own import Memory

from katapy.errors import AgentError, KatapyError
from katapy.sandbox.lifecycle import Status

MOST_MIB = 48
MOST_MIB_OF_HEADERS = 256
"""Until our settings are acknowledged, grpc takes 16 MiB of headers by its own measure, which is 200 of memory."""
ALL_OF_IT = 256 << 20
FLOOD_S = 1.5
"""As long as this a flood goes on; it makes hundreds of MiB a second if nothing holds it back."""

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.mark.parametrize("attack", ["FloodsStdout", "FloodsBig", "FloodsNothing", "FloodsEvents", "TalksAfterExit"])
def test_a_flood_that_nobody_reads_stays_in_the_guest(attack: str) -> None:
    async def scenario() -> None:
        async with besieged(attack) as host:
            memory = Memory()
            process = await host.create()
            if attack == "TalksAfterExit":
                await process.status()
            else:
                await asyncio.sleep(FLOOD_S)
                await host.ask("stats")
                assert host.sandbox.container("c1").status is not Status.STOPPED
            assert memory.growth_mib < MOST_MIB

    asyncio.run(scenario())


@pytest.mark.parametrize("attack", ["raw-endless", "raw-pings", "raw-settings", "raw-headers-without-end"])
def test_floods_below_grpc_are_bounded(attack: str) -> None:
    async def scenario() -> None:
        async with besieged(attack, config=IMPATIENT) as host:
            memory = Memory()
            step = await host.step("create", host.create())
            assert isinstance(step.outcome, KatapyError)
            assert memory.growth_mib < (MOST_MIB_OF_HEADERS if "headers" in attack else MOST_MIB)

    asyncio.run(scenario())


_SUPERVISOR = """
import asyncio
import katapy.supervisor.loop  # as the supervisor does; what it imports first decides
from framework.besieged import IMPATIENT, besieged

async def scenario():
    async with besieged("raw-goaways", config=IMPATIENT) as host:
        await host.step("create", host.create())

asyncio.run(scenario())
"""


def test_reasons_that_a_peer_gives_do_not_flood_the_supervisors_log() -> None:
    """grpc would write them to stderr, which is a file in memory for a supervisor."""
    environment = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PATH": os.defpath}
    with tempfile.TemporaryFile() as log:
        subprocess.run([sys.executable, "-c", _SUPERVISOR], stderr=log, env=environment, timeout=60, check=True)
        assert log.tell() < 4096


def test_a_slow_reader_gets_all_of_a_flood_in_order() -> None:
    async def scenario() -> None:
        async with besieged("FloodsStdout") as host:
            process = await host.create()
            memory = Memory()
            read = 0
            while read < 16 << 20:
                data = process.output(4096 if read < 65536 else 1 << 20)
                assert data.strip(b"x") == b""
                read += len(data)
                await asyncio.sleep(0)
            assert memory.growth_mib < MOST_MIB

    asyncio.run(scenario())


def test_a_reader_that_is_gone_stops_nothing_else() -> None:
    async def scenario() -> None:
        async with besieged("FloodsStdout") as host:
            process = await host.create()
            os.close(process.stdout)
            await asyncio.sleep(FLOOD_S / 3)
            await host.ask("stats")
            await host.ask("delete", force=True)
            assert host.sandbox.ended.is_set()

    asyncio.run(scenario())


@pytest.mark.parametrize("attack", ["FloodsStdout", "FloodsBig"])
def test_output_that_nobody_reads_does_not_hold_delete_back(attack: str) -> None:
    async def scenario() -> None:
        async with besieged(attack, config=IMPATIENT) as host:
            process = await host.create()
            step = await host.step("delete", host.ask("delete", force=True))
            assert step.outcome == {}
            assert await process.status() == 137
        assert host.accidents == []

    asyncio.run(scenario())


def test_input_that_nobody_takes_stays_with_the_writer() -> None:
    async def scenario() -> None:
        async with besieged("NeverReads", config=IMPATIENT) as host:
            process = await host.create()
            memory = Memory()
            os.set_blocking(process.stdin, False)
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while sent < ALL_OF_IT:
                    sent += os.write(process.stdin, b"i" * 65536)
                    await asyncio.sleep(0.005)
            assert sent < ALL_OF_IT
            assert memory.growth_mib < MOST_MIB
            await host.ask("delete", force=True)
        assert host.accidents == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "attack, op",
    [
        ("MillionsOfProcesses", "ps"),
        ("MillionsOfDevices", "stats"),
        ("Oversized", "ps"),
        ("Bomb", "stats"),
    ],
)
def test_an_answer_that_would_grow_in_memory_is_refused(attack: str, op: str) -> None:
    async def scenario() -> None:
        async with besieged(attack) as host:
            await host.create()
            memory = Memory()
            with pytest.raises(AgentError):
                await host.ask(op)
            assert memory.growth_mib < MOST_MIB
            await host.ask("pause")  # and the rest goes on

    asyncio.run(scenario())


def test_compressed_output_does_not_explode() -> None:
    async def scenario() -> None:
        memory = Memory()
        async with besieged("BombOutput") as host:
            process = await host.create()
            assert await process.status() == 137
            assert memory.growth_mib < MOST_MIB

    asyncio.run(scenario())


def test_floods_of_events_reach_a_subscriber_bounded() -> None:
    async def scenario() -> None:
        async with besieged("FloodsEvents") as host:
            await host.create()
            memory = Memory()
            stream = host.sandbox.events.follow(host.sandbox.container("c1"), 60)
            kinds = [(await anext(stream))[0] for _ in range(200)]
            assert kinds[0] == "stats"
            assert set(kinds[1:]) == {"oom"}
            await asyncio.sleep(FLOOD_S / 3)  # a subscriber that does not come back for more
            assert memory.growth_mib < MOST_MIB
            await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(scenario())
