"""host.yaml as a frozen value, and the hash that names what is made from it. Build host; pure but for reading files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import recipe
from steps import BuildError

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
_GUEST_IMAGE_CODE = ("kernel.py", "elf.py", "cpio.py", "download-kernel")
_SETUP = ("requirements.txt", "requirements-dev.txt", "launcher.py")
_OWN = ("host.yaml", "description.py", "image.py", "init", "__init__.py", "agent.py", "frames.py")


@dataclass(frozen=True, slots=True)
class Suite:
    """One of Debian's. `boot`: modules that its kernel needs before those of all suites; `mmdebstrap`: more options;
    `templates`: whether its QEMU can clone katapy's machines."""

    name: str
    mirror: str
    keyring: str
    python: str
    kernel: str
    packages: list[str]
    mmdebstrap: list[str]
    boot: list[str]
    templates: bool


@dataclass(frozen=True, slots=True)
class Wheels:
    platforms: list[str]
    development: list[str]


@dataclass(frozen=True, slots=True)
class Modules:
    boot: list[str]
    kept: list[str]
    load: list[str]
    options: dict[str, str]


@dataclass(frozen=True, slots=True)
class Machine:
    cpus: int
    memory_mib: int
    disk_mib: int


@dataclass(frozen=True, slots=True)
class Description:
    """The whole of host.yaml. `suite` is the name of the chosen one of `suites`."""

    suites: dict[str, Suite]
    packages: list[str]
    wheels: Wheels
    modules: Modules
    kernel_parameters: list[str]
    machine: Machine
    users: list[dict[str, Any]]
    masked: list[str]
    links: dict[str, str]
    files: dict[str, str]
    prune: list[str]

    def suite(self, name: str) -> Suite:
        """The suite of that name; an empty one means the first. Raises BuildError."""
        found = next((s for s in self.suites.values() if name in ("", s.name)), None)
        if found is None:
            raise BuildError(f"host.yaml has no suite {name}: choose one of {', '.join(self.suites)}")
        return found


def load(path: Path = HERE / "host.yaml") -> Description:
    """Raises BuildError naming a key that is missing or unknown."""
    document = yaml.safe_load(path.read_text())
    nested = {"wheels": Wheels, "modules": Modules, "machine": Machine}
    for key, cls in nested.items():
        document[key] = recipe.make(cls, document.get(key) or {}, f"{path.name}: {key}")
    suites = document.get("suites") or {}
    document["suites"] = {
        name: recipe.make(Suite, {"name": name, **suites[name]}, f"{path.name}: suites.{name}") for name in suites
    }
    description: Description = recipe.make(Description, document, path.name)
    return description


def inputs(suite: Suite) -> str:
    """Names the image of a suite: everything that it is made from, in this checkout."""
    paths = [HERE / name for name in _OWN]
    paths += [recipe.HERE / name for name in _GUEST_IMAGE_CODE]
    paths += [CHECKOUT / "setup" / name for name in _SETUP]
    return recipe.content_hash({"suite": suite.name.encode(), **{p.name: p.read_bytes() for p in paths}})


def requirements(wheels: Wheels) -> list[str]:
    """What pip is asked for: lines with pins. Raises BuildError if a development requirement is not pinned there."""
    setup = CHECKOUT / "setup"
    found = _pins(setup / "requirements.txt")
    development = {line.partition("==")[0]: line for line in _pins(setup / "requirements-dev.txt")}
    if unknown := set(wheels.development) - set(development):
        raise BuildError(f"host.yaml: requirements-dev.txt has no {', '.join(sorted(unknown))}")
    return [*found, *(development[name] for name in wheels.development)]


def _pins(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith(("#", "-"))]
