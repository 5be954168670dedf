"""The initramfs archive, read by another program. No root."""

import os
import stat
import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

import cpio

ENTRIES = [
    cpio.directory("bin"),
    cpio.file("bin/program", b"#!/bin/sh\n", 0o755),
    cpio.file("empty", b""),
    cpio.file("odd", b"12345"),
]


def test_busybox_unpacks_it(tmp_path: Path) -> None:
    subprocess.run(
        ["busybox", "cpio", "-i"], input=cpio.archive(ENTRIES), cwd=tmp_path, check=True, capture_output=True
    )
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["bin", "bin/program", "empty", "odd"]
    assert (tmp_path / "odd").read_bytes() == b"12345"
    assert stat.S_IMODE(os.stat(tmp_path / "bin/program").st_mode) == 0o755


def test_device_node_has_its_numbers() -> None:
    header = cpio.archive([cpio.character_device("dev/console", 5, 1)])[:110]
    mode, major, minor = (int(header[at : at + 8], 16) for at in (14, 78, 86))
    assert (stat.S_ISCHR(mode), stat.S_IMODE(mode), major, minor) == (True, 0o600, 5, 1)


@settings(max_examples=50)
@given(st.binary(max_size=40), st.text("abc/", min_size=1, max_size=9))
def test_every_part_is_aligned(content: bytes, name: str) -> None:
    archive = cpio.archive([cpio.file(name, content), cpio.file("next", b"")])
    second = archive.index(b"070701", 6 + len(name))
    assert len(archive) % 512 == 0
    assert second % 4 == 0
