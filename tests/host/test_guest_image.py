"""The image of this checkout: the same inputs give the same bytes, and it holds what the host relies on. Root."""

import json
import os
from pathlib import Path

import pytest

import build
import image
import recipe

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def built() -> Path:
    return build.build(build.OUTPUT)


def test_same_inputs_same_bytes(built: Path, tmp_path: Path) -> None:
    """The agent's layer; `make image-check` makes the packages' layer twice, too."""
    layer = build.OUTPUT / "layers" / recipe.packages_hash()
    description = json.loads((built / "image.json").read_text())
    image.make_image(recipe.load(), layer, recipe.guest_part(build.PACKAGE), description["inputs"], tmp_path)
    assert json.loads((tmp_path / "image.json").read_text()) == description


def test_description(built: Path) -> None:
    description = json.loads((built / "image.json").read_text())
    assert description["inputs"] == built.name
    assert set(description["sha256"]) == set(image.FILES)
    assert "quiet" in description["kernel_parameters"]
    assert {"crun", "python3.13-minimal"} <= set(description["packages"])


def test_small(built: Path) -> None:
    assert sum((built / name).stat().st_size for name in image.FILES) < 150e6


def test_second_call_changes_nothing(built: Path) -> None:
    before = (built / "image.json").stat().st_mtime_ns
    assert build.build(build.OUTPUT) == built
    assert (built / "image.json").stat().st_mtime_ns == before
