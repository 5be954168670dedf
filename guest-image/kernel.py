"""The kernel package: vmlinux out of its bzImage, and the few modules the guest needs. Build host."""

import io
import lzma
import re
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import elf
from steps import BuildError, run

_XZ = b"\xfd7zXZ\0"
_IMAGE = re.compile(r"\./boot/vmlinuz-(?P<release>.+)")
_MODULE = re.compile(r"\./(?:usr/)?lib/modules/[^/]+/.*/(?P<name>[^/]+)\.ko\.xz")


def unpack(deb: Path, modules: Sequence[str], target: Path) -> str:
    """Writes `target`/vmlinux and `target`/modules/*.ko from a kernel .deb; returns the kernel's release."""
    (target / "modules").mkdir(parents=True)
    release = ""
    for name, content in _members(deb):
        if match := _IMAGE.fullmatch(name):
            release = match["release"]
            (target / "vmlinux").write_bytes(vmlinux(content))
        elif (match := _MODULE.fullmatch(name)) and match["name"] in modules:
            (target / "modules" / f"{match['name']}.ko").write_bytes(lzma.decompress(content))
    if not release:
        raise BuildError(f"{deb.name} has no boot/vmlinuz-*: is it a kernel package?")
    check_order(target / "modules", modules)
    return release


def vmlinux(bzimage: bytes) -> bytes:
    """The uncompressed kernel; its payload is zstd, or xz in bookworm. Raises BuildError without a PVH entry."""
    content, reason = _unpacked(elf.payload(bzimage))
    if not elf.has_pvh_entry(content):
        raise BuildError(f"kernel: its payload is no ELF file with a PVH entry {reason}".strip())
    return content


def _unpacked(payload: bytes) -> tuple[bytes, str]:
    """What it holds, and what the program had to say. It is padded: zstd writes all, then complains about the rest."""
    if payload.startswith(_XZ):
        return lzma.LZMADecompressor().decompress(payload), ""
    done = subprocess.run(["zstd", "-dcq"], input=payload, capture_output=True, check=False)
    return done.stdout, done.stderr.decode(errors="replace").strip()


def check_order(folder: Path, modules: Sequence[str]) -> None:
    """Raises BuildError if a module is missing, or is listed before one that it depends on."""
    seen: set[str] = set()
    for name in modules:
        path = folder / f"{name}.ko"
        if not path.exists():
            raise BuildError(f"image.yaml: the kernel has no module {name}")
        if late := set(dependencies(path.read_bytes())) - seen:
            raise BuildError(f"image.yaml: module {name} must come after {', '.join(sorted(late))}")
        seen.add(name)


def dependencies(module: bytes) -> list[str]:
    """Modules that `module` names in its .modinfo section."""
    return [name for field in _modinfo(module, "depends") for name in field.split(",") if name]


def write_index(folder: Path, modules: Sequence[str]) -> None:
    """modules.dep and modules.alias for the modules in `folder`, which are listed in load order: what busybox's
    modprobe reads. Sorted and complete, where depmod is neither needed nor found on every host."""
    depends: dict[str, list[str]] = {}
    aliases: list[str] = []
    for name in modules:
        content = (folder / f"{name}.ko").read_bytes()
        direct = [d for d in dependencies(content) if d in modules]
        depends[name] = list(dict.fromkeys([*direct, *(d for one in direct for d in depends[one])]))
        aliases += [f"alias {alias} {name}\n" for alias in sorted(_modinfo(content, "alias"))]
    lines = [" ".join([f"{name}.ko:", *(f"{d}.ko" for d in needs)]) + "\n" for name, needs in depends.items()]
    (folder / "modules.dep").write_text("".join(lines))
    (folder / "modules.alias").write_text("".join(aliases))


def _modinfo(module: bytes, key: str) -> list[str]:
    found: list[bytes] = re.findall(rb"(?<=\0)" + key.encode() + rb"=([^\0]*)(?=\0)", module)
    return [value.decode() for value in found]


def _members(deb: Path) -> Iterable[tuple[str, bytes]]:
    """Names and contents of the files in a .deb that may be of use."""
    with tarfile.open(fileobj=io.BytesIO(run(["dpkg-deb", "--fsys-tarfile", str(deb)]))) as tar:
        for member in tar:
            if member.isfile() and (_IMAGE.fullmatch(member.name) or _MODULE.fullmatch(member.name)):
                stream = tar.extractfile(member)
                assert stream is not None
                yield member.name, stream.read()
