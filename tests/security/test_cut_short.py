"""What is cut short on the host, whatever the guest makes of it: nothing of it reaches what comes later.

The host side is the real one, the agent lies (framework/evil_agent.py).
"""

import asyncio
import dataclasses
import os
import select
from collections.abc import Callable, Collection
from typing import Any

import pytest
from framework.besieged import CONFIG, STEP_S, Host, besieged

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
            await until("the reader holds the writer up", lambda: _room(fd) == 0)
            init.pump.cancel()
            await init.pump.finished()
            opened = os.open(os.devnull, os.O_RDONLY)
            assert (os.fstat(fd).st_ino, opened == fd) == (pipe.st_ino, False)
            os.close(opened)
            os.close(process.stdout)
            process.stdout = process.stdin
            await until("the descriptor is closed", lambda: _is_other(fd, pipe))

    asyncio.run(scenario())


def _room(fd: int) -> int:
    """0: a pipe that takes nothing more."""
    return len(select.select([], [fd], [], 0)[1])


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
        host.sandbox._size.fit = self._never  # type: ignore[method-assign]
        self.task = asyncio.create_task(host.sandbox.create(self.plan, self.attachment()))

    def attachment(self) -> Attachment:
        _, fds, standin = self.host._stdio()
        return Attachment(fds, standin, 4713)

    async def _never(self, agent: Any, demands: Collection[Any]) -> None:
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
            assert host.sandbox._undoing == {}
            assert host.sandbox.container("m1") is made
            assert host.side.shared == ["c1", "m1"]

    asyncio.run(scenario())
