"""Whatever the agent says, or does not say, at any step: an answer or one line of an error, in time, and no accident.

The host side is the real one, from the control operations down; the agent lies (framework/evil_agent.py).
"""

import asyncio

import pytest
from framework.besieged import IMPATIENT, Host, besieged
from framework.evil_agent import DIAL, METHODS
from framework.evil_bytes import RAW, RAW_SILENT  # raw-goaways floods stderr of a grpc that may write there

from katapy.agent_client import client
from katapy.errors import KatapyError
from katapy.protocol import agent_pb2
from katapy.sandbox.lifecycle import Status

LONGEST_MESSAGE = 2500
SLACK_S = 6.0
"""What a busy machine adds to the deadlines of the configuration."""

LIES = ("Oversized", "OversizedOutput", "OtherVersion", "AbsurdHello", "AbsurdStatistics", "ExitsWithoutAWord")
AT_A_METHOD = ("NotProtobuf", "NotText", "Nested", "RefusesNastily", "RefusesAtLength", "Cancels", "FloodsMetadata")
FIRST_AND_LATER = (
    "Hello", "FindDisk", "CreateContainer", "StartContainer", "Stats", "ListProcesses", "Exec", "Stdio", "Events"
)  # fmt: skip
EVERYWHERE = ("Silent", "Dies", "HangsUp")

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(autouse=True)
def impatient_about_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute is no setting: a guest may wait for what was plugged in."""
    monkeypatch.setattr(client, "_RESIZE_S", IMPATIENT.timeouts.request_s)


def check(host: Host) -> None:
    """What holds after every attack."""
    assert host.accidents == []
    limits = IMPATIENT.timeouts
    longest = limits.boot_s + limits.request_s + 2 * limits.kill_s + SLACK_S
    for step in host.steps:
        assert step.seconds < longest, step
        if isinstance(step.outcome, KatapyError):
            message = str(step.outcome)
            assert message, step
            assert message.isprintable(), step
            assert len(message) <= LONGEST_MESSAGE, step
    assert all(status is None or 0 <= status <= 255 for _, status in host.saved)
    assert host.released == 1


async def attack(name: str, method: str = "") -> Host:
    async with besieged(name, method, IMPATIENT) as host:
        await host.live()
        if host.steps[-1].name == "delete":
            assert host.sandbox.ended.is_set()
            assert host.sandbox.container("c1").status is Status.STOPPED
            assert 0 <= await host.processes[0].status() <= 255
    return host


def test_every_method_is_attacked() -> None:
    assert {*METHODS, *DIAL} == set(agent_pb2.DESCRIPTOR.services_by_name["Agent"].methods_by_name)


@pytest.mark.parametrize("name", LIES)
def test_lies(name: str) -> None:
    check(asyncio.run(attack(name)))


@pytest.mark.parametrize("method", FIRST_AND_LATER)
@pytest.mark.parametrize("name", AT_A_METHOD)
def test_lies_at_one_method(name: str, method: str) -> None:
    check(asyncio.run(attack(name, method)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", EVERYWHERE)
def test_silence_death_and_hang_up_at_every_step(name: str, method: str) -> None:
    check(asyncio.run(attack(name, method)))


@pytest.mark.parametrize("name", [*(name for name in RAW if name != "raw-goaways"), RAW_SILENT])
def test_bytes_that_are_not_http2(name: str) -> None:
    host = asyncio.run(attack(name))
    check(host)
    assert [step.name for step in host.steps] == ["create"]
    assert isinstance(host.steps[0].outcome, KatapyError)


def test_another_protocol_version_is_refused_with_the_remedy() -> None:
    host = asyncio.run(attack("OtherVersion"))
    assert "build the image again" in str(host.steps[0].outcome)


def test_an_agent_that_is_silent_for_long_is_dead_and_so_is_its_machine() -> None:
    async def scenario() -> None:
        async with besieged("HangsUp", "Stats", IMPATIENT) as host:
            await host.create()
            await host.step("stats", host.ask("stats"))
            async with asyncio.timeout(20):
                await host.vm.wait()
                await host.sandbox.ended.wait()
            assert await host.processes[0].status() == 137

    asyncio.run(scenario())
