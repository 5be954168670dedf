"""What is cut short on the host, whatever the guest makes of it: nothing of it reaches what comes later.

The host side is the real one, the agent lies (framework/evil_agent.py).
"""

import asyncio
import dataclasses
import os
from collections.abc import Callable

import pytest
from framework.besieged import CONFIG, IMPATIENT, STEP_S, Host, besieged

from katapy.agent_client.stdio import StdioPump
from katapy.errors import AgentError, AlreadyExists
from katapy.sandbox.container import Attachment

pytestmark = pytest.mark.usefixtures("nothing_left")


async def until(what: str, condition: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(STEP_S):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"waited {STEP_S:g} s in vain: {what}") from None


def test_output_of_a_process_that_was_not_started_is_refused() -> None:
    async def scenario() -> None:
        async with besieged("TalksBeforeStart") as host:
            await host.create()
            with pytest.raises(AgentError, match="has not started"):
                await host.exec()
            assert host.processes[-1].output() == b""

    asyncio.run(scenario())


def test_the_descriptor_of_a_write_that_is_held_up_becomes_nobody_elses() -> None:
    async def scenario() -> None:
        async with besieged("FloodsStdout") as host:
            process = await host.create()
            init = host.sandbox.container("c1").init
            assert init is not None
            fd = init.pump._fds.stdout
            assert fd is not None
            pipe = os.fstat(fd)
            await until("the reader holds the writer up", lambda: _stuck(init.pump))
            init.pump.cancel()
            await init.pump.finished()
            opened = os.open(os.devnull, os.O_RDONLY)
            assert (os.fstat(fd).st_ino, opened == fd) == (pipe.st_ino, False)
            os.close(opened)
            os.close(process.stdout)
            process.stdout = process.stdin
            await until("the descriptor is closed", lambda: _is_other(fd, pipe))

    asyncio.run(scenario())


def _stuck(pump: StdioPump) -> bool:
    """Whether more has come than a pipe holds that nobody reads."""
    return pump.received > 64 * 1024


def _is_other(fd: int, before: os.stat_result) -> bool:
    try:
        return os.fstat(fd).st_ino != before.st_ino
    except OSError:
        return True


class Cut:
    """A member's create that waits for its machine to grow, and is cancelled there."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.plan = dataclasses.replace(host.plan.container, id="m1")
        self.growing = asyncio.Event()
        self._fit = host.sandbox._size.fit
        host.sandbox._size.fit = self._never  # type: ignore[method-assign, assignment]
        self.task = asyncio.create_task(host.sandbox.create(self.plan, self.attachment()))

    def attachment(self) -> Attachment:
        _, fds, standin = self.host._stdio()
        return Attachment(fds, standin, 4713)

    async def _never(self, *_: object) -> None:
        self.host.sandbox._size.fit = self._fit  # type: ignore[method-assign]
        self.growing.set()
        await asyncio.Event().wait()


def test_the_undoing_of_a_create_takes_no_later_container_apart() -> None:
    async def scenario() -> None:
        async with besieged("RemovesSlowly", config=CONFIG) as host:
            await host.create()
            cut = Cut(host)
            await cut.growing.wait()
            with pytest.raises(AlreadyExists):
                await host.sandbox.create(cut.plan, cut.attachment())
            cut.task.cancel()
            await asyncio.wait([cut.task], timeout=0.1)
            made = await host.sandbox.create(cut.plan, cut.attachment())
            assert cut.task.done()
            assert host.sandbox.container("m1") is made
            assert host.side.shared == ["c1", "m1"]

    asyncio.run(scenario())


@pytest.mark.parametrize("by", ["kill", "the stand-in's death"])
def test_a_guest_that_does_not_kill_is_killed(by: str) -> None:
    async def scenario() -> None:
        async with besieged("Immortal", config=IMPATIENT) as host:
            process = await host.create()
            if by == "kill":
                await host.ask("kill", signal=9)
            else:
                process.standin.close()
            async with asyncio.timeout(STEP_S):
                await host.vm.wait()
                await host.sandbox.container("c1").over.wait()
            assert host.saved[-1] == ("stopped", 137)

    asyncio.run(scenario())


def test_a_reader_that_does_not_read_is_not_the_guests_fault_but_endless_output_is() -> None:
    async def scenario() -> None:
        async with besieged("ImmortalAndLoud", config=IMPATIENT) as host:
            process = await host.create()
            await host.ask("kill", signal=9)
            pump = host.sandbox.container("c1").init.pump  # type: ignore[union-attr]
            await until("the reader holds the writer up", lambda: _stuck(pump))
            machine = asyncio.ensure_future(host.vm.wait())
            await asyncio.wait([machine], timeout=4 * IMPATIENT.timeouts.kill_s)
            assert not machine.done()
            async with asyncio.timeout(STEP_S):
                while not machine.done():
                    await asyncio.to_thread(os.read, process.stdout, 1 << 20)

    asyncio.run(scenario())
