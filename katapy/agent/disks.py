"""Disks that the host plugs in, found by their serial number. Runs in the agent."""

import errno
import os
import re

from katapy.agent import hotplug
from katapy.errors import SpecError, Timeout
from katapy.protocol import agent_pb2 as pb

DEADLINE_S = 20.0
_BLOCK = "/sys/block"
_SERIAL = re.compile(r"[a-z0-9-]{1,20}")
"""virtio-blk has room for 20 bytes."""


async def find(serial: str) -> pb.FindDiskReply:
    """Waits for a disk that is being plugged in. Raises SpecError, Timeout."""
    if not _SERIAL.fullmatch(serial):
        raise SpecError(f"{serial[:40]!r} is not the serial number of a disk")
    try:
        return await hotplug.when_plugged_in(lambda: look(serial), DEADLINE_S)
    except OSError as error:
        raise Timeout(f"the disk {serial} did not appear in the guest", DEADLINE_S) from error


def look(serial: str, block: str = _BLOCK) -> pb.FindDiskReply:
    """The disk of that serial number. Raises OSError (ENOENT) if there is none."""
    for name in os.listdir(block):
        try:
            with open(f"{block}/{name}/serial", encoding="ascii") as file:
                found = file.read().rstrip()
            if found != serial:
                continue
            with open(f"{block}/{name}/dev", encoding="ascii") as file:
                major, minor = file.read().split(":")
        except FileNotFoundError:  # it has no serial number, or is going
            continue
        return pb.FindDiskReply(name=name, major=int(major), minor=int(minor))
    raise FileNotFoundError(errno.ENOENT, "no such disk", serial)
