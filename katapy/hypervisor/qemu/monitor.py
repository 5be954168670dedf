"""A control channel without a loop: what saving and loading a machine say to QEMU. Runs in the CLI (templates) and in
the supervisor, before asyncio is imported.

qemu.qmp is used for everything else. It needs asyncio, and both together take 0.14 s to import, for which a clone would
have to wait: it is loaded in 0.05 s. This speaks to a QEMU that no guest has touched yet.
"""

import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from katapy.errors import HypervisorError, Timeout

_READ = 64 * 1024
_MAX_LINE = 1024 * 1024


class Monitor:
    """One connection. The socket stays the caller's. `deadline_s`: seconds for everything that is said over it."""

    def __init__(self, connection: socket.socket, deadline_s: float) -> None:
        self._connection = connection
        self._limit = deadline_s
        self._deadline = time.monotonic() + deadline_s
        self._buffer = b""
        self._events: list[dict[str, Any]] = []
        self._receive()  # the greeting
        self.execute("qmp_capabilities")

    def remaining(self) -> float:
        """Seconds until the deadline. Raises Timeout."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Timeout("qemu did not answer on its control channel", self._limit)
        return left

    def give(self, name: str, fd: int) -> None:
        """Hands QEMU a descriptor, which it knows by that name. The caller keeps its own. HypervisorError, Timeout."""
        self.execute("getfd", {"fdname": name}, fd)

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, fd: int | None = None) -> object:
        """The answer to a command. Raises HypervisorError, Timeout."""
        request = json.dumps({"execute": command, "arguments": dict(arguments or {})}).encode() + b"\n"
        try:
            self._connection.settimeout(self.remaining())
            socket.send_fds(self._connection, [request], [] if fd is None else [fd])
        except OSError as e:
            raise HypervisorError(f"qemu is gone before {command}") from e
        while True:
            message = self._receive()
            if "event" in message:
                self._events.append(message)
            elif "error" in message:
                raise HypervisorError(f"qemu refused {command}: {message['error'].get('desc')}")
            else:
                return message.get("return")

    def wait_migrated(self) -> None:
        """Waits for the end of a migration. Raises HypervisorError unless it has succeeded."""
        while True:
            message = self._events.pop(0) if self._events else self._receive()
            status = message.get("data", {}).get("status") if message.get("event") == "MIGRATION" else None
            if status == "completed":
                return
            if status in ("failed", "cancelled"):
                raise HypervisorError(f"qemu could not save or load the machine: {status}")

    def _receive(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            self._connection.settimeout(self.remaining())
            try:
                data = self._connection.recv(_READ)
            except TimeoutError:
                continue
            except OSError as e:
                raise HypervisorError("qemu is gone") from e
            if not data or len(self._buffer) > _MAX_LINE:
                raise HypervisorError("qemu has closed its control channel")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise HypervisorError("qemu does not speak on its control channel")
        return message
