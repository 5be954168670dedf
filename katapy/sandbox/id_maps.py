"""Idmapped mounts: which ids of its source a bind mount shows as which. Pure; runs in the CLI.

The host maps them (storage/shared_directory), so the guest gets a plain bind. As with runc, a mount's own mappings win;
with the option `idmap` or `ridmap` alone they are the container's; only `ridmap` reaches what is mounted below.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from katapy.errors import SpecError, Unsupported
from katapy.linux.user_namespace import IdRange
from katapy.sandbox.sources import Source, SourceKind
from katapy.storage.shared_directory import IdMap

OPTIONS = frozenset({"idmap", "ridmap"})
_SHARED = (SourceKind.DIRECTORY, SourceKind.FILE)


def plan_id_maps(spec: Mapping[str, Any], sources: Mapping[int, Source]) -> dict[int, IdMap]:
    """By index in spec.mounts. Raises SpecError, Unsupported."""
    maps = {}
    for index, mount in enumerate(spec.get("mounts") or []):
        options = OPTIONS.intersection(mount.get("options") or [])
        if not options and not mount.get("uidMappings"):
            continue
        at = f"$.mounts[{index}]"
        if index not in sources or sources[index].overlay:
            raise SpecError("id-mapped mounts are only supported for bind-mounts", at)
        if sources[index].kind not in _SHARED:
            raise Unsupported(
                f"mapped ids of {sources[index].path} are not supported: only files and directories - at `{at}`"
            )
        origin = mount if mount.get("uidMappings") else spec.get("linux") or {}
        uids, gids = (_ranges(origin.get(kind) or []) for kind in ("uidMappings", "gidMappings"))
        if not uids or not gids:
            raise SpecError("id-mapped mount without mappings, and the container has none", at)
        maps[index] = IdMap(uids, gids, "ridmap" in options)
    return maps


def _ranges(mappings: Sequence[Mapping[str, int]]) -> tuple[IdRange, ...]:
    return tuple((m.get("containerID", 0), m.get("hostID", 0), m.get("size", 0)) for m in mappings)
