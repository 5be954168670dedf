"""Finding the kernel in a bzImage, and its PVH note. No root."""

import struct

import pytest

import elf
from steps import BuildError


def bzimage(payload: bytes, setup_sectors: int = 3, version: int = 0x20F) -> bytes:
    head = bytearray((setup_sectors + 1) * 512)
    head[0x1F1] = setup_sectors
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, version)
    struct.pack_into("<II", head, 0x248, 100, len(payload))
    return bytes(head) + b"s" * 100 + payload + b"tail"


def kernel(note_name: bytes, note_type: int) -> bytes:
    notes = struct.pack("<III", 4, 3, 1) + b"GNU\0" + b"abc\0"
    notes += struct.pack("<III", 4, 8, note_type) + note_name + bytes(8)
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<HH", header, 54, 56, 1)
    program_header = struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(notes), 0, 4)
    return bytes(header) + program_header + notes


def test_payload() -> None:
    assert elf.payload(bzimage(b"compressed")) == b"compressed"


@pytest.mark.parametrize("image", [b"\0" * 4096, bzimage(b"x", version=0x207)])
def test_not_a_bzimage(image: bytes) -> None:
    with pytest.raises(BuildError, match=r"boot protocol 2\.08"):
        elf.payload(image)


def test_pvh_note() -> None:
    assert elf.has_pvh_entry(kernel(b"Xen\0", elf.XEN_ELFNOTE_PHYS32_ENTRY))
    assert not elf.has_pvh_entry(kernel(b"Xen\0", 1))
    assert not elf.has_pvh_entry(kernel(b"GNU\0", elf.XEN_ELFNOTE_PHYS32_ENTRY))
    assert not elf.has_pvh_entry(b"\x28\xb5\x2f\xfd")
