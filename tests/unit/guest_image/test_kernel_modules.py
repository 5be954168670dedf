"""Order and index of the kernel modules. No root."""

from pathlib import Path

import pytest

import kernel
from steps import BuildError


def put(folder: Path, name: str, depends: str = "", alias: str = "") -> None:
    fields = [b"", b"license=GPL", f"alias={alias}".encode() if alias else b"", f"depends={depends}".encode(), b""]
    (folder / f"{name}.ko").write_bytes(b"\x7fELF" + b"\0".join(fields))


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    put(tmp_path, "netfs")
    put(tmp_path, "9pnet", "netfs")
    put(tmp_path, "9pnet_virtio", "9pnet", "virtio:d00000009v*")
    return tmp_path


def test_order(modules: Path) -> None:
    kernel.check_order(modules, ["netfs", "9pnet", "9pnet_virtio"])


def test_too_late(modules: Path) -> None:
    with pytest.raises(BuildError, match="module 9pnet must come after netfs"):
        kernel.check_order(modules, ["9pnet", "netfs"])


def test_missing(modules: Path) -> None:
    with pytest.raises(BuildError, match="no module ext4"):
        kernel.check_order(modules, ["netfs", "ext4"])


def test_index(modules: Path) -> None:
    kernel.write_index(modules, ["netfs", "9pnet", "9pnet_virtio"])
    assert (modules / "modules.alias").read_text() == "alias virtio:d00000009v* 9pnet_virtio\n"
    assert (modules / "modules.dep").read_text().splitlines() == [
        "netfs.ko:",
        "9pnet.ko: netfs.ko",
        "9pnet_virtio.ko: 9pnet.ko netfs.ko",
    ]
