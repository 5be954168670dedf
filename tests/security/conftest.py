"""The tier security: attacks. Most need no machine: an evil agent plays the guest, in a process of its own."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from framework.besieged import besieged
from framework.own import open_descriptors
from framework.wait import wait_for


@pytest.fixture(scope="session")
def warm() -> None:
    """grpc opens descriptors of its own with its first channel, and keeps them."""

    async def once() -> None:
        async with besieged("HonestAgent") as host:
            await host.live()

    asyncio.run(once())


@pytest.fixture
def nothing_left(warm: None) -> Iterator[None]:
    """Fails the test that left descriptors or threads in this process, which plays the supervisor."""
    descriptors, threads = open_descriptors(), threading.active_count()
    yield
    wait_for("all threads have ended", lambda: threading.active_count() <= threads, 60)
    left: dict[int, str] = {}

    def closed() -> bool:
        left.clear()
        left.update({fd: what for fd, what in open_descriptors().items() if descriptors.get(fd) != what})
        return len(open_descriptors()) <= len(descriptors)

    try:
        wait_for("all descriptors are closed", closed, 60)
    except AssertionError:
        raise AssertionError(f"left open: {left}") from None
