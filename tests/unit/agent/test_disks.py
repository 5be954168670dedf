"""A disk is found by its serial number."""

import asyncio
from pathlib import Path

import pytest

from katapy.agent.disks import find, look
from katapy.errors import SpecError


@pytest.fixture
def block(tmp_path: Path) -> str:
    for name in ("vda", "vdb", "loop0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dev").write_text("254:16\n")
    (tmp_path / "vda/serial").write_text("")
    (tmp_path / "vdb/serial").write_text("disk-1")
    return str(tmp_path)


def test_the_disk_of_that_number(block: str) -> None:
    found = look("disk-1", block)
    assert (found.name, found.major, found.minor) == ("vdb", 254, 16)


def test_none_is_an_error(block: str) -> None:
    with pytest.raises(FileNotFoundError):
        look("disk-2", block)


@pytest.mark.parametrize("serial", ["", "../x", "x" * 21, "a b"])
def test_what_is_no_serial_number_is_refused(serial: str) -> None:
    with pytest.raises(SpecError):
        asyncio.run(find(serial))
