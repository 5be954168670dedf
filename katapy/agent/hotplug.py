"""Devices that are plugged in while the machine runs: a clone's share comes after its agent. Runs in the agent."""

import asyncio
import errno
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 20.0
NETLINK_KOBJECT_UEVENT = 15
_KERNEL = 1
_MESSAGE = 8192
_ABSENT = (errno.ENOENT, errno.EINVAL, errno.ENODEV, errno.ENXIO)
"""What a mount says to a tag that no device has (yet): 9p the first, virtiofs the second."""


async def when_plugged_in(action: Callable[[], T], deadline_s: float = DEADLINE_S) -> T:
    """Does `action` as soon as it finds its device: tried now, and after everything that the kernel says of devices.

    Raises OSError: what the last try said.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT) as uevents:
        uevents.setblocking(False)
        uevents.bind((0, _KERNEL))
        deadline = time.monotonic() + deadline_s
        while True:
            try:
                return action()
            except OSError as error:
                if error.errno not in _ABSENT or time.monotonic() >= deadline:
                    raise
            await _next(uevents, deadline - time.monotonic())


async def _next(uevents: socket.socket, seconds: float) -> None:
    """The next message, or the deadline. Messages that were lost (ENOBUFS) count as one."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await asyncio.get_running_loop().sock_recv(uevents, _MESSAGE)
    except (TimeoutError, OSError):
        return
