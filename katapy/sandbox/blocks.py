"""Which block devices of the host a container gets, and how. Runs in the CLI, before `plan`, which is pure.

A container gets a device if its spec names it: by a node in linux.devices with a rule that allows this very device
(what engines make of `--device`), or by a bind mount of it. `--privileged` is not that: engines then list all devices
of the host, with one rule that allows everything. See `devices` in configs/katapy.yaml.

A bind names a device only by the kernel's own node. Any other may be a container's: in a volume that it may write to,
it makes nodes of any number, and links to anywhere.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from katapy.config import Devices
from katapy.errors import Unsupported
from katapy.linux import mount_tree
from katapy.oci import device_rules
from katapy.sandbox.sources import Source, SourceKind

_SYSFS = "/sys/dev/block"
_DEV = "/dev/"
_NODE = -1
PER_DEVICE = (
    "weightDevice",
    "throttleReadBpsDevice",
    "throttleWriteBpsDevice",
    "throttleReadIOPSDevice",
    "throttleWriteIOPSDevice",
)
"""Members of linux.resources.blockIO that have limits for single devices."""


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """A disk of the guest with the host's device `path`, of that number, behind it.

    readonly: for the whole guest. access: what the container may do with it (of `rwm`). mount: index in spec.mounts of
    the bind that it is the source of, or -1 for nodes in linux.devices.
    """

    path: str
    major: int
    minor: int
    readonly: bool
    access: str
    mount: int = _NODE


def plan_blocks(
    spec: Mapping[str, Any], sources: Mapping[int, Source], settings: Devices, sysfs: str = _SYSFS
) -> tuple[BlockPlan, ...]:
    """Those of a validated spec. Numbers that no device of the host has stay what they are, nodes with nothing behind.

    Raises Unsupported for a device that the spec names and the configuration keeps, and for limits of any other.
    """
    linux = spec.get("linux") or {}
    resources = linux.get("resources") or {}
    rules = resources.get("devices") or []
    nodes = {(d.get("major") or 0, d.get("minor") or 0) for d in linux.get("devices") or [] if d.get("type") == "b"}
    blocks = (*_nodes(sorted(nodes), rules, settings, sysfs), *_binds(sources, rules, settings, sysfs))
    known = {(block.major, block.minor) for block in blocks}
    limits = resources.get("blockIO") or {}
    for limited in (entry for name in PER_DEVICE for entry in limits.get(name) or []):
        check_limited(limited["major"], limited["minor"], known)
    return blocks


def check_limited(major: int, minor: int, known: Collection[tuple[int, int]]) -> None:
    """Raises Unsupported for a disk that the container hasn't got: its number means another one in the guest."""
    if (major, minor) not in known:
        raise Unsupported(
            f"a blockIO limit of device {major}:{minor} is not supported: it is no block device of the container's"
        )


def _nodes(
    numbers: Sequence[tuple[int, int]], rules: Sequence[Mapping[str, Any]], settings: Devices, sysfs: str
) -> Iterator[BlockPlan]:
    for major, minor in numbers:
        path = _path(major, minor, sysfs)
        if path is None:  # before the rules: a document may have as many of both as it likes
            continue
        access = device_rules.access(rules, "b", major, minor)
        if not {"r", "w"} & set(access):
            continue
        if device_rules.names(rules, "b", major, minor):
            _check(path, settings)
        elif not _listed(path, settings.block_if_privileged):
            continue
        yield BlockPlan(path, major, minor, "w" not in access, access)


def _binds(
    sources: Mapping[int, Source],
    rules: Sequence[Mapping[str, Any]],
    settings: Devices,
    sysfs: str,
) -> Iterator[BlockPlan]:
    for index, source in sources.items():
        if source.kind is not SourceKind.BLOCK:
            continue
        major, minor = os.major(source.device), os.minor(source.device)
        path = _path(major, minor, sysfs)
        if path is None:
            raise Unsupported(f"bind mount of {source.path} is not supported: the host's kernel has no such device")
        if not _is_its_node(source.path, path):
            raise Unsupported(f"bind mount of {source.path} is not supported: it is not the host's own {path}")
        _check(path, settings)
        access = device_rules.access(rules, "b", major, minor)
        if not {"r", "w"} & set(access):
            raise Unsupported(f"bind mount of {source.path} is not supported: no rule allows the container its use")
        yield BlockPlan(path, major, minor, "w" not in access, access, index)


def _path(major: int, minor: int, sysfs: str) -> str | None:
    """The kernel's name for it, below /dev; None if there is no such device."""
    try:
        with open(f"{sysfs}/{major}:{minor}/uevent", encoding="utf-8") as f:
            names = [line.rstrip().removeprefix("DEVNAME=") for line in f if line.startswith("DEVNAME=")]
    except OSError:
        return None
    return f"/dev/{names[0]}" if names else None


def _is_its_node(source: str, path: str) -> bool:
    """Whether `source` is what the kernel has at `path`, or a mount of that. Links count only where udev makes them."""
    if source == path:
        return True
    try:
        fd = mount_tree.open_without_links(os.path.realpath(source) if source.startswith(_DEV) else source)
        try:
            return os.path.samestat(os.fstat(fd), os.stat(path))
        finally:
            os.close(fd)
    except OSError:
        return False


def _check(path: str, settings: Devices) -> None:
    if not _listed(path, settings.block):
        raise Unsupported(f"block device {path} is not for containers: devices.block in katapy.yaml does not list it")


def _listed(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)
