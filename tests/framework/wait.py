"""Waiting for a named condition: the only place of the tests where time passes on purpose. Runs in pytest."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_PAUSE_S = 0.02


def wait_for(what: str, condition: Callable[[], T | None], deadline_s: float = 20.0) -> T:
    """The first true value of `condition()`. Raises AssertionError that names `what` after `deadline_s` seconds."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline_s:g} s in vain: {what}")
        time.sleep(_PAUSE_S)
    return value
