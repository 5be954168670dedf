#!/usr/bin/env python3
"""Builds the guest image: `.venv/bin/python guest-image/build.py [--output DIR] [--check]`. Build host, as root.

<output>/<inputs>/{vmlinux,initrd,rootfs.erofs,image.json}    one image, never changed once it is there
<output>/current -> <inputs>                                  switched atomically
<output>/layers/<hash>/                                       packages, wheels and kernel, kept for the next build
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import cache
import image
import packages
import recipe
from steps import BuildError, step

PACKAGE = recipe.HERE.parent / "katapy"
OUTPUT = Path("/var/lib/katapy/images")
IMAGES_KEPT = 3


def build(output: Path) -> Path:
    """Makes the image of this checkout unless it is there, and points `current` at it. Returns its folder."""
    what = recipe.load()
    guest_files = recipe.guest_part(PACKAGE)
    inputs = recipe.image_hash(guest_files)
    target, layer = output / inputs, output / "layers" / recipe.packages_hash()
    output.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        with cache.locked(output):
            cache.clear_leftovers(output, output / "layers")
            cache.once(layer, lambda folder: packages.make_layer(what, folder))
            cache.once(target, lambda folder: image.make_image(what, layer, guest_files, inputs, folder))
            _switch(output / "current", inputs)
            _remove_older(output, layer)
    _switch(output / "current", inputs)
    return target


def _remove_older(output: Path, keep: Path) -> None:
    """Leaves the newest images, for sandboxes that are starting from one, and the layer they are made from."""
    images = [path.parent for path in output.glob("*/image.json") if path.parent.name != "current"]
    images.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    others = [path for path in keep.parent.iterdir() if path != keep]
    for folder in [*images[IMAGES_KEPT:], *others]:
        shutil.rmtree(folder)


def check(output: Path) -> None:
    """Builds everything a second time, and compares. Raises BuildError if a byte differs."""
    built = build(output)
    with step("second build, from nothing"), tempfile.TemporaryDirectory(dir=output, prefix=".tmp-") as folder:
        again = build(Path(folder))
        one, two = (json.loads((path / "image.json").read_text()) for path in (built, again))
    if one["packages"] != two["packages"]:
        raise BuildError("the archive has newer packages than the image: remove its folder and build again")
    if differ := [name for name in image.FILES if one["sha256"][name] != two["sha256"][name]]:
        raise BuildError(f"not reproducible: {', '.join(differ)}")
    print("reproducible: both builds have the same bytes", file=sys.stderr)


def _switch(link: Path, target: str) -> None:
    if link.is_symlink() and os.readlink(link) == target:
        return
    new = link.with_name(f".current-{os.getpid()}")
    new.symlink_to(target)
    new.rename(link)


def main() -> int:
    parser = argparse.ArgumentParser(description="build katapy's guest image")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"folder of the images (default {OUTPUT})")
    parser.add_argument("--check", action="store_true", help="build twice and compare")
    args = parser.parse_args()
    try:
        check(args.output) if args.check else print(build(args.output))
    except BuildError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
