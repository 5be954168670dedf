"""Milestones of one start, in seconds since `create` was called.

Filled in by CLI and supervisor alike (they share the clock).
"""

import time


class Timings:
    """`marks`: name -> seconds after `origin` (CLOCK_MONOTONIC, seconds)."""

    def __init__(self, origin: float) -> None:
        self.origin = origin
        self.marks: dict[str, float] = {}

    def mark(self, name: str) -> None:
        self.marks[name] = round(time.monotonic() - self.origin, 4)
