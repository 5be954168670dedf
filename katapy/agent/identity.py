"""What tells this machine from every other one that was cloned from the same template. Runs in the agent.

`adopt` comes before any call of the host is answered. What it can't change is the same in all clones of a template: the
kernel's and the agent's layout in memory, and the hash seed of Python's strings.
"""

import os
import sys

from katapy.agent import init
from katapy.agent.boot import BootMessage
from katapy.linux import mount
from katapy.protocol import names

MACHINE_ID = "/etc/machine-id"


def adopt(message: BootMessage) -> None:
    """Entropy first: everything else that is random comes from it. Raises OSError."""
    init.seed_random(message.entropy)
    if "random" in sys.modules:
        sys.modules["random"].seed(os.urandom(32))
    init.set_clock(message.unix_nanoseconds)
    write(names.GUEST_BOOT_ID, format_uuid(os.urandom(16)) + "\n")
    write(names.GUEST_MACHINE_ID, os.urandom(16).hex() + "\n")
    mount.mount(names.GUEST_MACHINE_ID, MACHINE_ID, "", mount.MS_BIND)


def write(path: str, text: str) -> None:
    """Containers bind the boot id over the kernel's. Not the agent: in a user namespace the kernel lets nobody mount a
    new /proc who sees one with something mounted over a part of it."""
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    os.chmod(path, 0o444)


def format_uuid(random_bytes: bytes) -> str:
    """A version 4 UUID of 16 bytes; the module `uuid` would cost every start 20 ms."""
    octets = bytearray(random_bytes)
    octets[6] = octets[6] & 0x0F | 0x40
    octets[8] = octets[8] & 0x3F | 0x80
    text = octets.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
