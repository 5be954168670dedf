"""The cached layer: Debian packages, wheels and the kernel, pruned. Build host, as root.

<layer>/root/           the tree, without katapy's own code
<layer>/kernel/         vmlinux, modules/*.ko
<layer>/packages.json   {"kernel_release": ..., "packages": {name: version}}
"""

import fnmatch
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import kernel
from recipe import HERE, Recipe
from steps import run, step

WHEELS = "usr/lib/katapy/wheels"
EPOCH = "1700000000"
"""SOURCE_DATE_EPOCH: the time of every file in the image."""


def make_layer(recipe: Recipe, layer: Path) -> None:
    """Fills the empty folder `layer`. Raises BuildError."""
    root, downloads = layer / "root", layer / "downloads"
    root.mkdir()
    downloads.mkdir()
    with step(f"packages of Debian {recipe.debian.suite}"):
        _debian(recipe, root, downloads)
    with step("wheels"):
        _wheels(recipe, root, downloads)
    with step("kernel"):
        modules = [*recipe.modules.boot, *recipe.modules.demand]
        release = kernel.unpack(downloads / "kernel.deb", modules, layer / "kernel")
        _install_modules(recipe, root, layer / "kernel" / "modules", release)
    prune(root, recipe.prune)
    _add_files(recipe, root)
    with step("byte code of Python and the wheels"):
        compile_tree(root, recipe.python, [f"/usr/lib/{recipe.python}", f"/{WHEELS}"])
    versions = dict(line.split("\t") for line in (downloads / "packages.txt").read_text().splitlines())
    shutil.rmtree(downloads)
    (layer / "packages.json").write_text(json.dumps({"kernel_release": release, "packages": versions}))


def _debian(recipe: Recipe, root: Path, downloads: Path) -> None:
    debian = recipe.debian
    hook = f'"{HERE}/download-kernel" "$1" {debian.kernel} "{downloads}"'
    run(
        [
            "mmdebstrap", "--quiet", "--variant=extract", "--mode=root", "--format=directory", "--skip=output/dev",
            f"--include={','.join(debian.packages)}", f"--extract-hook={hook}",
            debian.suite, str(root), f"deb [signed-by={debian.keyring}] {debian.mirror} {debian.suite} main",
        ],
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
    )  # fmt: skip
    # bookworm's mmdebstrap makes device nodes whatever --skip says, and a copy of /dev/zero has no end
    shutil.rmtree(root / "dev")
    (root / "dev").mkdir()


def _wheels(recipe: Recipe, root: Path, downloads: Path) -> None:
    version = recipe.python.removeprefix("python")
    platforms = [f"--platform={name}" for name in recipe.wheels.platforms]
    run(
        [
            sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps",
            "--only-binary=:all:", f"--python-version={version}", "--implementation=cp", *platforms,
            f"--dest={downloads}", *recipe.wheels.requirements,
        ]
    )  # fmt: skip
    for wheel in sorted(downloads.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root / WHEELS)


def _install_modules(recipe: Recipe, root: Path, built: Path, release: str) -> None:
    """The modules loaded on demand, where the kernel's own modprobe finds them."""
    folder = root / "usr/lib/modules" / release
    folder.mkdir(parents=True)
    for name in recipe.modules.demand:
        shutil.copy(built / f"{name}.ko", folder)
    kernel.write_index(folder, recipe.modules.demand)


def prune(root: Path, patterns: list[str]) -> None:
    """Removes what matches, then the folders that are empty because of it."""
    for path in sorted(root.rglob("*"), reverse=True):  # children before their folder
        relative, folder = str(path.relative_to(root)), path.is_dir() and not path.is_symlink()
        matches = any(fnmatch.fnmatchcase(relative, pattern) for pattern in patterns)
        if folder and (matches or not any(path.iterdir())):
            shutil.rmtree(path)
        elif matches:
            path.unlink()


def _add_files(recipe: Recipe, root: Path) -> None:
    for name in recipe.directories:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, target in recipe.links.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)
    for name, content in recipe.files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def compile_tree(root: Path, python: str, folders: list[str]) -> None:
    """Byte-compiles with the guest's own Python. Unchecked: the image never changes, nothing need be compared."""
    command = ["-m", "compileall", "-q", "-j1", "--invalidation-mode", "unchecked-hash", *folders]
    environment = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0"}
    run(["chroot", str(root), f"/usr/bin/{python}", "-I", "-S", *command], env=environment)
