"""Lines that the guest writes to its boot port: phases and log, bounded and checked. Pure; runs in the supervisor.

The guest is hostile: a line is at most 4 KiB, the first 64 phases and the last 200 lines of log are kept, anything odd
is counted and dropped.
"""

import json
from collections import deque

_MAX_LINE = 4096
_MAX_PHASES = 64
_MAX_LOG = 200
_MAX_NAME = 64
_MAX_UPTIME_S = 1e9


class BootPort:
    """A parser that is fed bytes. `phases`: name and seconds since the guest's kernel started."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, float]] = []
        self.log: deque[str] = deque(maxlen=_MAX_LOG)
        self.dropped = 0
        self._line = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> None:
        """Never raises."""
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._add(part)
            if not self._skipping:
                self._parse(bytes(self._line))
            self._line.clear()
            self._skipping = False
        self._add(rest)

    def _add(self, part: bytes) -> None:
        if self._skipping:
            return
        if len(self._line) + len(part) > _MAX_LINE:
            self._line.clear()
            self._skipping = True
            self.dropped += 1
        else:
            self._line += part

    def _parse(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not (isinstance(message, dict) and (self._phase(message) or self._log(message))):
            self.dropped += 1

    def _phase(self, message: dict[str, object]) -> bool:
        name, uptime = message.get("phase"), message.get("uptime")
        if not (isinstance(name, str) and isinstance(uptime, (int, float)) and len(self.phases) < _MAX_PHASES):
            return False
        if not (name.isprintable() and 0 < len(name) <= _MAX_NAME and 0 <= uptime < _MAX_UPTIME_S):
            return False
        self.phases.append((name, float(uptime)))
        return True

    def _log(self, message: dict[str, object]) -> bool:
        text = message.get("log")
        if not isinstance(text, str):
            return False
        self.log.append("".join(c if c.isprintable() else " " for c in text))
        return True
