"""Mounts of type overlay: which directories of the host they are of."""

from typing import Any

import pytest

from katapy.errors import SpecError, Unsupported
from katapy.sandbox.overlays import MAX_LOWER, flags, is_overlay, read_overlay
from katapy.storage.overlay import Overlay


def mount(*options: str, **more: str) -> dict[str, Any]:
    return {"destination": "/x", "type": "overlay", "source": "overlay", "options": list(options), **more}


def test_directories_and_options_are_told_apart() -> None:
    asked = mount("lowerdir=/a\\:b:c/../d", "upperdir=/u", "workdir=w", "private", "ro", "index=off", "userxattr")
    overlay = read_overlay(asked, "/bundle")
    assert overlay == Overlay(("/a:b", "/bundle/d"), "/u", "/bundle/w", ("index=off", "userxattr"))
    assert overlay.directories == ("/a:b", "/bundle/d", "/u", "/bundle/w")
    assert flags(asked["options"]) == ["private", "ro"]


@pytest.mark.parametrize("lower, error", [("", SpecError), (":", SpecError), ("/a:" * (MAX_LOWER + 1), Unsupported)])
def test_none_and_too_many_are_refused(lower: str, error: type[Exception]) -> None:
    assert len(read_overlay(mount("lowerdir=" + "/a:" * MAX_LOWER), "/").lower) == MAX_LOWER
    with pytest.raises(error, match="overlay to /x"):
        read_overlay(mount(f"lowerdir={lower}"), "/")


def test_a_bind_is_none_whatever_its_type_says() -> None:
    assert is_overlay(mount())
    assert not is_overlay(mount("rbind"))
    assert not is_overlay(mount(type="bind"))
