"""A reproducible initramfs archive ("newc" cpio). Build host; pure.

Every entry belongs to root and has no time: the same files give the same bytes, and device nodes need no root.
"""

import stat
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """`mode` with the file type; `device` is (major, minor) of a node."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(name: str) -> Entry:
    return Entry(name, stat.S_IFDIR | 0o755)


def file(name: str, content: bytes, mode: int = 0o644) -> Entry:
    return Entry(name, stat.S_IFREG | mode, content)


def character_device(name: str, major: int, minor: int, mode: int = 0o600) -> Entry:
    return Entry(name, stat.S_IFCHR | mode, device=(major, minor))


def archive(entries: list[Entry]) -> bytes:
    """The archive, in the order given; parents must come before their children."""
    parts = [_entry(number, entry) for number, entry in enumerate(entries, start=1)]
    return _pad(b"".join([*parts, _entry(0, Entry("TRAILER!!!", 0))]), 512)


def _entry(inode: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    numbers = (inode, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device, len(name), 0)
    header = b"070701" + b"".join(b"%08x" % n for n in numbers)
    return _pad(header + name, 4) + _pad(entry.content, 4)


def _pad(data: bytes, size: int) -> bytes:
    return data + bytes(-len(data) % size)
