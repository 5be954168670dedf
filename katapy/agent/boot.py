"""The boot port: one message from the host (a template gets one before), phases and log lines back. Runs in the agent.

The message holds the secret of the channel, so it is read once, and the port stays open: the kernel lets nobody else
open it then.
"""

import contextlib
import json
import os
import select
import time
from typing import NamedTuple

from katapy.errors import Timeout
from katapy.linux.inotify import IN_CREATE, Inotify
from katapy.protocol import names

PORTS = "/sys/class/virtio-ports"
MESSAGE_LIMIT = 64 * 1024
LOG_LIMIT = 2000
"""Characters of one log line."""
LOG_LINES = 1000
"""Log lines in all: the host bounds what it keeps, and a guest that fails in circles has nothing new to say."""


class BootMessage(NamedTuple):
    secret: str
    transport: str
    entropy: bytes
    unix_nanoseconds: int
    rehearse: bool = False
    """There is time before the pod comes: what the template rehearsed is done once more, here."""


class TemplateMessage(NamedTuple):
    """This machine becomes a template: it gets ready for everything, and its clones read the real message."""


def parse_message(line: bytes) -> BootMessage | TemplateMessage:
    """The host's one line. Raises ValueError if it is not what docs/design.md says."""
    message = json.loads(line)
    if not isinstance(message, dict) or message.get("version") != names.PROTOCOL_VERSION:
        raise ValueError("boot message: not an object of this version")
    if message.get("template") is True:
        return TemplateMessage()
    secret, transport = message.get("secret"), message.get("transport")
    entropy, now = message.get("entropy", ""), message.get("unix_nanoseconds", 0)
    if not isinstance(secret, str) or len(secret) < 16:
        raise ValueError("boot message: no secret")
    if transport not in ("serial", "vsock"):
        raise ValueError("boot message: transport is neither serial nor vsock")
    if not isinstance(entropy, str) or not isinstance(now, int):
        raise ValueError("boot message: entropy or clock is malformed")
    return BootMessage(secret, transport, bytes.fromhex(entropy), now, message.get("rehearse") is True)


def find_port(name: str, ports: str = PORTS) -> str | None:
    """The device node of the virtio-serial port called `name`. There is no udev that would make a link."""
    try:
        candidates = os.listdir(ports)
    except FileNotFoundError:
        return None
    for port in candidates:
        try:
            with open(f"{ports}/{port}/name", encoding="utf-8") as file:
                found = file.read().strip()
        except FileNotFoundError:
            continue
        if found == name:
            return f"/dev/{port}"
    return None


def wait_for_port(name: str, deadline_s: float) -> str:
    """Like `find_port`, for a port the kernel is still about to announce. Raises Timeout."""
    watcher = Inotify()
    try:
        watcher.watch("/dev", IN_CREATE)
        deadline = time.monotonic() + deadline_s
        while (path := find_port(name)) is None:
            if not select.select([watcher.fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise Timeout(f"virtio-serial port {name}", deadline_s)
            watcher.read()
        return path
    finally:
        watcher.close()


class BootPort:
    """Owns the port's descriptor, for good. Nothing here waits for a host that does not read."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._log_lines = 0
        self.phases: list[tuple[str, float]] = []
        os.set_blocking(fd, False)

    def phase(self, name: str) -> None:
        """Notes a milestone with the seconds since the kernel started, and tells the host."""
        uptime = round(time.clock_gettime(time.CLOCK_BOOTTIME), 3)
        self.phases.append((name, uptime))
        self._send({"phase": name, "uptime": uptime})

    def log(self, text: str) -> None:
        """One bounded line for the host's log; dropped if the host does not read."""
        self._log_lines += 1
        if self._log_lines <= LOG_LINES:
            self._send({"log": text.encode("ascii", "replace").decode()[:LOG_LIMIT]})

    def read_message(self) -> BootMessage | TemplateMessage:
        """Waits for the host's line. Raises ValueError if it is malformed or too long, EOFError at the host's end."""
        line = b""
        while not line.endswith(b"\n"):
            if len(line) > MESSAGE_LIMIT:
                raise ValueError("boot message: too long")
            select.select([self._fd], [], [])
            chunk = os.read(self._fd, MESSAGE_LIMIT)
            if not chunk:
                raise EOFError("boot message: the host closed the boot port")
            line += chunk
        return parse_message(line)

    def _send(self, record: dict[str, object]) -> None:
        # A host that does not read misses something: phases are told again by Hello.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._fd, json.dumps(record).encode() + b"\n")
