"""image.yaml as a frozen value, and the hashes that name its layers. Build host; pure but for reading files."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from steps import BuildError

HERE = Path(__file__).resolve().parent
GUEST_PART = ("__init__.py", "errors.py", "agent", "protocol", "oci", "linux")
"""What of the katapy package goes into the guest."""


@dataclass(frozen=True, slots=True)
class Debian:
    suite: str
    mirror: str
    keyring: str
    packages: list[str]
    kernel: str


@dataclass(frozen=True, slots=True)
class Wheels:
    platforms: list[str]
    requirements: list[str]


@dataclass(frozen=True, slots=True)
class Modules:
    boot: list[str]
    demand: list[str]


@dataclass(frozen=True, slots=True)
class Recipe:
    version: str
    debian: Debian
    python: str
    wheels: Wheels
    modules: Modules
    kernel_parameters: list[str]
    links: dict[str, str]
    directories: list[str]
    files: dict[str, str]
    prune: list[str]


def load(path: Path = HERE / "image.yaml") -> Recipe:
    """Reads image.yaml. Raises BuildError naming a key that is missing or unknown."""
    document = yaml.safe_load(path.read_text())
    nested = {"debian": Debian, "wheels": Wheels, "modules": Modules}
    for key, cls in nested.items():
        document[key] = make(cls, document.get(key) or {}, f"{path.name}: {key}")
    recipe: Recipe = make(Recipe, document, path.name)
    return recipe


def make(cls: Any, mapping: dict[str, Any], where: str) -> Any:
    """A dataclass of a mapping with just its keys. Raises BuildError; `where`: what the error begins with."""
    known = {f.name for f in fields(cls)}
    if wrong := known ^ set(mapping):
        raise BuildError(f"{where}: missing or unknown keys: {', '.join(sorted(wrong))}")
    return cls(**mapping)


def packages_hash() -> str:
    """Names the cached layer of packages, wheels and kernel: image.yaml and the code that makes the layer."""
    names = ("image.yaml", "packages.py", "download-kernel", "kernel.py", "elf.py")
    return content_hash({name: (HERE / name).read_bytes() for name in names})


def image_hash(guest_files: Mapping[str, bytes]) -> str:
    """Names the image: everything it is made of, in this checkout."""
    build_code = {p.name: p.read_bytes() for p in HERE.iterdir() if p.suffix in (".py", ".yaml", "") and p.is_file()}
    return content_hash({**build_code, **guest_files})


def guest_part(package: Path) -> dict[str, bytes]:
    """The files of katapy that the guest gets, by path relative to the folder `package`. Read once, so that the
    name of an image is true also if somebody edits while it is built."""
    paths: list[Path] = []
    for name in GUEST_PART:
        path = package / name
        paths += [path] if path.suffix == ".py" else path.rglob("*.py")
    return {f"{package.name}/{path.relative_to(package)}": path.read_bytes() for path in sorted(paths)}


def content_hash(files: Mapping[str, bytes]) -> str:
    """Of names and contents; the order does not matter."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
