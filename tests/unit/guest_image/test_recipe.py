"""image.yaml is whole, agrees with the host's requirements, and names layers by what they are made of. No root."""

from pathlib import Path

import pytest

import recipe
from steps import BuildError

CHECKOUT = recipe.HERE.parent


def test_loads() -> None:
    loaded = recipe.load()
    assert loaded.debian.suite == "trixie"
    assert "quiet" in loaded.kernel_parameters


@pytest.mark.parametrize(
    "text,wrong",
    [
        ("version: '1'\n", "debian"),
        ((recipe.HERE / "image.yaml").read_text() + "\nbogus: 1\n", "bogus"),
        ((recipe.HERE / "image.yaml").read_text().replace("  suite: trixie\n", ""), "suite"),
    ],
)
def test_wrong_keys(tmp_path: Path, text: str, wrong: str) -> None:
    path = tmp_path / "image.yaml"
    path.write_text(text)
    with pytest.raises(BuildError, match=wrong):
        recipe.load(path)


def test_guest_and_host_speak_with_the_same_libraries() -> None:
    host = (CHECKOUT / "setup/requirements.txt").read_text().splitlines()
    guest = recipe.load().wheels.requirements
    for name in ("grpcio", "protobuf"):
        assert [r for r in host if r.startswith(f"{name}==")] == [r for r in guest if r.startswith(f"{name}==")]


def test_only_the_guest_part_is_in_the_image(tmp_path: Path) -> None:
    for name in ("__init__.py", "errors.py", "cli/main.py", "agent/a.py", "agent/service/b.py", "oci/notes.txt"):
        (tmp_path / "katapy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "katapy" / name).touch()
    files = recipe.guest_part(tmp_path / "katapy")
    assert [name.removeprefix("katapy/") for name in files] == sorted(
        ["__init__.py", "agent/a.py", "agent/service/b.py", "errors.py"]
    )


def test_hash_depends_on_names_and_contents() -> None:
    first = recipe.content_hash({"a": b"x", "b": b"y"})
    assert first == recipe.content_hash({"b": b"y", "a": b"x"})
    assert first != recipe.content_hash({"a": b"x", "b": b"z"})
    assert first != recipe.content_hash({"a": b"x", "c": b"y"})
