"""Which mount points crun needs where it may not be able to make them: in a user namespace. Pure; runs in the CLI.

Those in the root file system itself; what lies below another mount is left to crun.
"""

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from katapy.sandbox.sources import Source, SourceKind
from katapy.storage.mount_points import MountPoints

_FILES = (SourceKind.FILE, SourceKind.DEVICE, SourceKind.BLOCK)
_HERE = ""
"""Marks a mount point: no name in a path."""

_Tree = dict[str, Any]
"""Names -> what is below."""


def plan_mount_points(spec: Mapping[str, Any], sources: Mapping[int, Source]) -> MountPoints | None:
    """`sources`: of the bind mounts, by index. None without a user namespace that has a root."""
    linux = spec.get("linux") or {}
    new = any(n["type"] == "user" and not n.get("path") for n in linux.get("namespaces") or [])
    uid, gid = (_outside(linux.get(kind) or []) for kind in ("uidMappings", "gidMappings"))
    if not new or uid is None or gid is None:
        return None
    files: list[str] = []
    directories: list[str] = []
    there: _Tree = {}
    for index, mount in enumerate(spec.get("mounts") or []):
        place = posixpath.normpath("/" + mount["destination"].lstrip("/"))
        if place != "/" and _added(place, there):
            is_file = index in sources and sources[index].kind in _FILES
            (files if is_file else directories).append(place)
    return MountPoints(tuple(directories), tuple(files), uid, gid)


def _added(place: str, tree: _Tree) -> bool:
    """False if it is in the tree already, or below one that is."""
    for name in place[1:].split("/"):
        tree = tree.setdefault(name, {})
        if _HERE in tree:
            return False
    tree[_HERE] = None
    return True


def _outside(mappings: Sequence[Mapping[str, int]]) -> int | None:
    """The id on the host that root of the container has."""
    return next((m.get("hostID", 0) for m in mappings if not m.get("containerID") and m.get("size")), None)
