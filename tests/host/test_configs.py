"""configs/ as it stands, by the programs that read it. Others: unit/config, engines/."""

import subprocess
import tomllib
from pathlib import Path
from typing import Any

from framework.fixtures import CHECKOUT

CONTAINERD = CHECKOUT / "configs/containerd/katapy.toml"


def test_containerd_takes_every_setting(tmp_path: Path) -> None:
    """It says what it has read: a name that it does not know is not there."""
    file = tmp_path / "config.toml"
    file.write_text("version = 2\n" + CONTAINERD.read_text())
    argv = ["containerd", "--config", str(file), "config", "dump"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    read = tomllib.loads(done.stdout)
    assert _missing(tomllib.loads(CONTAINERD.read_text()), read) == []


def _missing(wanted: dict[str, Any], found: dict[str, Any], place: str = "") -> list[str]:
    """Keys of `wanted` that `found` has not, or with other values."""
    lacking = []
    for key, value in wanted.items():
        if isinstance(value, dict):
            lacking += _missing(value, found.get(key, {}), f"{place}{key}.")
        elif found.get(key) != value:
            lacking.append(f"{place}{key}")
    return lacking
