"""What the sources of a bundle's bind mounts and its devices are on this host.

Runs in the CLI, before `plan`, which is pure.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from katapy.errors import HostError, Unsupported, errno_text

_TMPFS_TYPES = {"tmpfs", "shm"}
_EMPTY_DIR = "/kubernetes.io~empty-dir/"
"""In the path of a volume that is empty at first and that only its pod uses: of medium Memory, if it is on a tmpfs."""
_GUEST_DEVICES = {
    os.makedev(1, 3): "/dev/null",
    os.makedev(1, 5): "/dev/zero",
    os.makedev(1, 7): "/dev/full",
    os.makedev(1, 8): "/dev/random",
    os.makedev(1, 9): "/dev/urandom",
}
"""Devices without state: the guest's own serves as well as the host's (`-v /dev/null:/etc/x` hides a file)."""


class SourceKind(StrEnum):
    DIRECTORY = "directory"
    FILE = "file"
    MEMORY = "memory"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Memory:
    """A tmpfs of the host that becomes one of the guest's. `name`: equal for all who bind the same one.

    size: bytes. kept: it outlives the containers that use it. mode, uid, gid: of its root.
    """

    name: str
    size: int
    mode: int
    uid: int
    gid: int
    kept: bool


@dataclass(frozen=True, slots=True)
class Source:
    """`path` is absolute, on the host, or in the guest for kind DEVICE.

    `memory`: what the tmpfs behind it is like, for kind MEMORY.
    """

    kind: SourceKind
    path: str
    memory: Memory | None = None


def is_bind(mount: Mapping[str, Any]) -> bool:
    """By the runtime-spec: type `bind`, or an option `bind` or `rbind`."""
    return mount.get("type") == "bind" or not {"bind", "rbind"}.isdisjoint(mount.get("options") or ())


def inspect_sources(mounts: Sequence[Mapping[str, Any]], bundle: str) -> dict[int, Source]:
    """Index in `mounts` -> its source, for every bind.

    Raises HostError (absent), Unsupported (socket, device, FIFO).
    """
    return {i: _inspect(m, bundle) for i, m in enumerate(mounts) if is_bind(m)}


def _inspect(mount: Mapping[str, Any], bundle: str) -> Source:
    path = os.path.normpath(os.path.join(bundle, mount.get("source") or ""))
    try:
        status = os.stat(path)
    except OSError as e:
        raise HostError(f"mount {path} to {mount['destination']}: stat {path}: {errno_text(e)}") from e
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        shm = mount["destination"].rstrip("/") == "/dev/shm"
        if (shm or _EMPTY_DIR in path) and _on_tmpfs(path):
            return Source(SourceKind.MEMORY, path, _memory(path, status, kept=not shm))
        return Source(SourceKind.DIRECTORY, path)
    if stat.S_ISREG(mode):
        return Source(SourceKind.FILE, path)
    if stat.S_ISCHR(mode) and status.st_rdev in _GUEST_DEVICES:
        return Source(SourceKind.DEVICE, _GUEST_DEVICES[status.st_rdev])
    raise Unsupported(f"bind mount of {path} is not supported: only files and directories can be shared with a guest")


def _memory(path: str, status: os.stat_result, kept: bool) -> Memory:
    capacity = os.statvfs(path)
    name = f"{status.st_dev}-{status.st_ino}"
    size = capacity.f_blocks * capacity.f_frsize
    return Memory(name, size, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, kept)


def _on_tmpfs(path: str) -> bool:
    """By the mount that `path` is on, as /proc/self/mountinfo names it."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        lines = [line.split() for line in f]
    return any(fields[2] == number and fields[fields.index("-") + 1] in _TMPFS_TYPES for fields in lines)
