"""Waiting for a named condition: the only place of the tests where time passes on purpose. Runs in pytest."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_PAUSE_S = 0.02
PATIENCE = float(os.environ.get("KATAPY_TESTS_PATIENCE", "1"))
"""By what all deadlines are multiplied: a guest in a test host is ten times slower than elsewhere."""


def wait_for(what: str, condition: Callable[[], T | None], deadline_s: float = 20.0) -> T:
    """The first true value of `condition()`. Raises AssertionError that names `what` after `deadline_s` seconds."""
    deadline_s *= PATIENCE
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline_s:g} s in vain: {what}")
        time.sleep(_PAUSE_S)
    return value
