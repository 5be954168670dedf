"""What the sources of a bundle's bind mounts and its devices are on this host.

Runs in the CLI, before `plan`, which is pure.
"""

import os
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from katapy.errors import HostError, Unsupported, errno_text
from katapy.sandbox.overlays import is_overlay, read_overlay
from katapy.storage.overlay import Overlay

_TMPFS_TYPES = {"tmpfs", "shm"}
EMPTY_DIR = "/kubernetes.io~empty-dir/"
"""In the path of a volume that is empty at first and that only its pod uses: of medium Memory, if it is on a tmpfs."""
_GUEST_DEVICES = {
    os.makedev(1, 3): "/dev/null",
    os.makedev(1, 5): "/dev/zero",
    os.makedev(1, 7): "/dev/full",
    os.makedev(1, 8): "/dev/random",
    os.makedev(1, 9): "/dev/urandom",
}
"""Devices without state: the guest's own serves as well as the host's (`-v /dev/null:/etc/x` hides a file)."""

_MOUNT_FLAGS = {"ro": os.ST_RDONLY, "nosuid": os.ST_NOSUID, "nodev": os.ST_NODEV, "noexec": os.ST_NOEXEC}

_LEAST_HUGE = 64 * 1024
"""Bytes: of hugetlbfs, the size of a block is that of a page."""


class SourceKind(StrEnum):
    DIRECTORY = "directory"
    FILE = "file"
    MEMORY = "memory"
    DEVICE = "device"
    BLOCK = "block"


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

    `memory`: what the tmpfs behind it is like, for kind MEMORY. `device`: its number, for kind BLOCK. `flags`: of the
    mount that it is on, as options (_MOUNT_FLAGS), for kinds DIRECTORY and FILE. `overlay`: what the host is to mount;
    then `path` is words for errors.
    """

    kind: SourceKind
    path: str
    memory: Memory | None = None
    device: int = 0
    flags: tuple[str, ...] = ()
    overlay: Overlay | None = None


def is_bind(mount: Mapping[str, Any]) -> bool:
    """By the runtime-spec: type `bind`, or an option `bind` or `rbind`."""
    return mount.get("type") == "bind" or not {"bind", "rbind"}.isdisjoint(mount.get("options") or ())


def inspect_sources(mounts: Sequence[Mapping[str, Any]], bundle: str) -> dict[int, Source]:
    """Index in `mounts` -> its source, for every bind and every overlay.

    Raises HostError (absent), Unsupported (socket, character device, FIFO; a file system on a block device), SpecError.
    """
    for mount in mounts:
        if not is_bind(mount):
            _refuse_disk(mount)
    binds = {i: _inspect(m, bundle) for i, m in enumerate(mounts) if is_bind(m)}
    overlays = {i: _overlay(m, bundle) for i, m in enumerate(mounts) if is_overlay(m) and i not in binds}
    return binds | overlays


def _overlay(mount: Mapping[str, Any], bundle: str) -> Source:
    overlay = read_overlay(mount, bundle)
    for path in overlay.directories:
        _stat(path, "overlay", mount)
    return Source(SourceKind.DIRECTORY, f"overlay of {overlay.lower[0]}", overlay=overlay)


def _refuse_disk(mount: Mapping[str, Any]) -> None:
    """Raises Unsupported for a mount of a block device: the guest's device would be open to whoever may make nodes."""
    path = mount.get("source") or ""
    try:
        is_disk = path.startswith("/") and stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:  # a name, as of a tmpfs
        return
    if is_disk:
        raise Unsupported(
            f"mount of {path} to {mount['destination']} is not supported: mount it on the host and bind the directory, "
            "or give the container the device"
        )


def _inspect(mount: Mapping[str, Any], bundle: str) -> Source:
    path = os.path.normpath(os.path.join(bundle, mount.get("source") or ""))
    status = _stat(path, path, mount)
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        shm = mount["destination"].rstrip("/") == "/dev/shm"
        if (shm or EMPTY_DIR in path) and _is_on(path, _TMPFS_TYPES):
            return Source(SourceKind.MEMORY, path, _memory(path, status, kept=not shm))
        if status.st_blksize >= _LEAST_HUGE and _is_on(path, {"hugetlbfs"}):
            raise Unsupported(f"bind mount of {path} is not supported: huge pages of the host can't be a guest's")
        return Source(SourceKind.DIRECTORY, path, flags=_flags(path))
    if stat.S_ISREG(mode):
        return Source(SourceKind.FILE, path, flags=_flags(path))
    if stat.S_ISCHR(mode) and status.st_rdev in _GUEST_DEVICES:
        return Source(SourceKind.DEVICE, _GUEST_DEVICES[status.st_rdev])
    if stat.S_ISBLK(mode):
        return Source(SourceKind.BLOCK, path, device=status.st_rdev)
    raise Unsupported(f"bind mount of {path} is not supported: only files and directories can be shared with a guest")


def _stat(path: str, source: str, mount: Mapping[str, Any]) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as e:
        raise HostError(f"mount {source} to {mount['destination']}: stat {path}: {errno_text(e)}") from e


def _flags(path: str) -> tuple[str, ...]:
    flags = os.statvfs(path).f_flag
    return tuple(option for option, flag in _MOUNT_FLAGS.items() if flags & flag)


def _memory(path: str, status: os.stat_result, kept: bool) -> Memory:
    capacity = os.statvfs(path)
    name = f"{status.st_dev}-{status.st_ino}"
    size = capacity.f_blocks * capacity.f_frsize
    return Memory(name, size, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, kept)


def _is_on(path: str, types: Collection[str]) -> bool:
    """Whether the mount that `path` is on is of one of these types, as /proc/self/mountinfo names them."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        lines = [line.split() for line in f]
    return any(fields[2] == number and fields[fields.index("-") + 1] in types for fields in lines)
