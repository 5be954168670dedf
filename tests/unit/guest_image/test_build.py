"""Nothing half-done stays, the link is switched whole, pruning goes by pattern. No root."""

import os
from pathlib import Path

import pytest

import build
import cache
import packages


def test_interrupted_step_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.once(tmp_path / "layers/x", interrupted)
    assert list((tmp_path / "layers").iterdir()) == []


def test_finished_step_is_not_repeated(tmp_path: Path) -> None:
    made: list[Path] = []
    for _ in range(2):
        cache.once(tmp_path / "x", made.append)
    assert len(made) == 1
    assert (tmp_path / "x").is_dir()


def test_leftovers_of_a_killed_build_go(tmp_path: Path) -> None:
    for name in (".tmp-a", "layers/.tmp-b", "layers/kept"):
        (tmp_path / name).mkdir(parents=True)
    cache.clear_leftovers(tmp_path, tmp_path / "layers")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["kept", "layers"]


def test_switch(tmp_path: Path) -> None:
    for target in ("one", "two", "two"):
        build._switch(tmp_path / "current", target)
    assert os.readlink(tmp_path / "current") == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["current"]


def test_newest_images_stay(tmp_path: Path) -> None:
    for age, name in enumerate(["e", "d", "c", "b", "a"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "image.json").touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    (tmp_path / "current").symlink_to("e")
    for name in ("old", "new"):
        (tmp_path / "layers" / name).mkdir(parents=True)
    build._remove_older(tmp_path, tmp_path / "layers/new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "current", "d", "e", "layers"]
    assert [p.name for p in (tmp_path / "layers").iterdir()] == ["new"]


def test_prune(tmp_path: Path) -> None:
    for name in ("usr/share/doc/a", "usr/lib/libx.a", "usr/lib/liby.so", "usr/lib/python3.13/test/t.py", "etc/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "usr/lib/link").symlink_to("liby.so")
    packages.prune(tmp_path, ["usr/share/*", "*.a", "usr/lib/python3.13/test", "usr/lib/link"])
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if not p.is_dir()) == [
        "etc/x",
        "usr/lib/liby.so",
    ]
    assert not (tmp_path / "usr/share").exists()
