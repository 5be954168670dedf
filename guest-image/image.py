"""One image from the cached layer and katapy's guest part: vmlinux, initrd, rootfs.erofs, image.json. Build host."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import cpio
from packages import EPOCH, compile_tree
from recipe import HERE, Recipe
from steps import run, step

UUID = "6b617461-7079-4000-8000-000000000001"
FILES = ("vmlinux", "initrd", "rootfs.erofs")


def make_image(recipe: Recipe, layer: Path, guest_files: Mapping[str, bytes], inputs: str, target: Path) -> None:
    """Fills the empty folder `target`. Raises BuildError."""
    shutil.copy(layer / "kernel/vmlinux", target)
    (target / "initrd").write_bytes(initrd(recipe, layer))
    root = target / "root"
    with step("agent"):
        shutil.copytree(layer / "root", root, symlinks=True)
        _add_agent(recipe, root, guest_files, inputs)
    with step("root file system"):
        run(["mkfs.erofs", "--quiet", "-x-1", "--all-root", f"-T{EPOCH}", f"-U{UUID}",
             str(target / "rootfs.erofs"), str(root)])  # fmt: skip
    shutil.rmtree(root)
    (target / "image.json").write_text(json.dumps(_description(recipe, layer, inputs, target), indent=2) + "\n")


def initrd(recipe: Recipe, layer: Path) -> bytes:
    """busybox, /init and the modules that the root file system needs; not compressed, see README.md."""
    boot = recipe.modules.boot
    modules = [cpio.file(f"modules/{m}.ko", (layer / f"kernel/modules/{m}.ko").read_bytes()) for m in boot]
    return cpio.archive(
        [
            *(cpio.directory(name) for name in ("bin", "dev", "modules", "proc", "root", "sys")),
            cpio.character_device("dev/console", 5, 1),
            cpio.file("bin/busybox", (layer / "root/usr/bin/busybox").read_bytes(), 0o755),
            cpio.file("init", (HERE / "init").read_bytes(), 0o755),
            cpio.file("modules/order", "".join(f"{m}\n" for m in boot).encode()),
            *modules,
        ]
    )


def _add_agent(recipe: Recipe, root: Path, guest_files: Mapping[str, bytes], inputs: str) -> None:
    home = root / "usr/lib/katapy"
    shutil.copy(HERE / "agent-main.py", home)
    for name, content in guest_files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    compile_tree(root, recipe.python, ["/usr/lib/katapy/katapy"])
    (root / "etc/katapy-image.json").write_text(json.dumps({"version": recipe.version, "inputs": inputs}) + "\n")
    for path in [home, *home.rglob("*")]:  # the umask of whoever builds must not show
        path.chmod(0o755 if path.is_dir() else 0o644)


def _description(recipe: Recipe, layer: Path, inputs: str, target: Path) -> dict[str, object]:
    return {
        "version": recipe.version,
        "inputs": inputs,
        "kernel_parameters": recipe.kernel_parameters,
        "sha256": {name: hashlib.sha256((target / name).read_bytes()).hexdigest() for name in FILES},
        **json.loads((layer / "packages.json").read_text()),
        "wheels": recipe.wheels.requirements,
    }
