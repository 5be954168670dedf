"""A container is not bound to the processors that its engine is bound to."""

import os

from katapy.cli.creation import use_all_processors


def test_all_processors_are_used_whatever_the_caller_is_bound_to() -> None:
    before = os.sched_getaffinity(0)
    try:
        use_all_processors()
        every = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(every)})
        use_all_processors()
        assert os.sched_getaffinity(0) == every >= before
    finally:
        os.sched_setaffinity(0, before)
