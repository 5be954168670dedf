"""The event queue: bounded, and kept between subscribers."""

import asyncio

from katapy.agent.events import LIMIT, Events


def test_events_wait_for_a_subscriber_and_the_oldest_go_first() -> None:
    async def run() -> None:
        events = Events()
        for number in range(LIMIT + 5):
            events.exited("c", str(number), 0)
        with events.subscribe() as queue:
            first = await queue.get()
            assert first is not None
            assert first.exit.exec_id == "5"
            assert queue.qsize() == LIMIT - 1

    asyncio.run(run())


def test_a_new_subscriber_ends_the_old_one_and_inherits() -> None:
    async def run() -> None:
        events = Events()
        with events.subscribe() as old:
            events.oom("c", 1)
            with events.subscribe() as new:
                assert await old.get() is None
                event = await new.get()
                assert event is not None
                assert event.oom.kills == 1

    asyncio.run(run())
