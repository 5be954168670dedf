"""Finds the kernel proper in a bzImage. Build host; pure.

QEMU boots an uncompressed ELF kernel that has a Xen PVH note straight at its 32-bit entry: neither the
firmware copies a compressed kernel nor the guest unpacks it, which under emulation takes seconds.
"""

import struct

from steps import BuildError

XEN_ELFNOTE_PHYS32_ENTRY = 18
_PT_NOTE = 4


def payload(bzimage: bytes) -> bytes:
    """The compressed kernel in a bzImage (boot protocol 2.08 and newer). Raises BuildError."""
    if bzimage[0x202:0x206] != b"HdrS" or struct.unpack_from("<H", bzimage, 0x206)[0] < 0x208:
        raise BuildError("kernel: not a bzImage with boot protocol 2.08 or newer")
    setup_sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    return bzimage[start : start + length]


def has_pvh_entry(elf: bytes) -> bool:
    """True if `elf` is a 64-bit little-endian ELF file with the note that QEMU's -kernel needs for PVH."""
    if elf[:6] != b"\x7fELF\x02\x01":
        return False
    table, entry_size, count = struct.unpack_from("<Q", elf, 32)[0], *struct.unpack_from("<HH", elf, 54)
    for i in range(count):
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", elf, table + i * entry_size)
        if kind == _PT_NOTE and _has_note(elf[offset : offset + size]):
            return True
    return False


def _has_note(notes: bytes) -> bool:
    at = 0
    while at + 12 <= len(notes):
        name_size, data_size, kind = struct.unpack_from("<III", notes, at)
        name = notes[at + 12 : at + 12 + name_size]
        if name == b"Xen\0" and kind == XEN_ELFNOTE_PHYS32_ENTRY:
            return True
        at += 12 + -(-name_size // 4) * 4 + -(-data_size // 4) * 4
    return False
