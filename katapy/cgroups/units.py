"""systemd's names: what linux.cgroupsPath means under its cgroup driver, `slice:prefix:name`. Pure. CLI, supervisor.

As runc reads it: the scope `<prefix>-<name>.scope` in that slice; `a-b.slice` lies in `a.slice`. See systemd.slice(5).
"""

from katapy.errors import SpecError

SYSTEM_SLICE = "system.slice"
PREFIX = "katapy"
_PARTS = 3
_LONGEST = 255
"""systemd's limit for the name of a unit."""
_PATH = "$.linux.cgroupsPath"


class Unit:
    """A scope. `name`: `<prefix>-<name>.scope`. `path`: of its cgroup below the top of a hierarchy."""

    def __init__(self, slice_name: str, prefix: str, container: str) -> None:
        self.slice = slice_name
        self.name = f"{prefix}-{container}.scope" if prefix else f"{container}.scope"
        self.cgroups_path = f"{slice_name}:{prefix}:{container}"
        self.path = "/".join((*slice_folders(slice_name), self.name))


def parse_unit(cgroups_path: str, container_id: str) -> Unit:
    """An empty path is the container's id in system.slice. Raises SpecError."""
    parts = (cgroups_path or f"{SYSTEM_SLICE}:{PREFIX}:{container_id}").split(":")
    if len(parts) != _PARTS:
        expected = 'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups'
        raise SpecError(f"{expected}, got {cgroups_path!r} instead", _PATH)
    slice_name, prefix, name = parts
    if not name or "/" in prefix + name or "\0" in cgroups_path:
        raise SpecError(f"cgroupsPath {cgroups_path!r} does not name a unit of systemd", _PATH)
    unit = Unit(slice_name or SYSTEM_SLICE, prefix, name)
    if len(unit.name) > _LONGEST:
        raise SpecError(f"the unit of cgroupsPath {cgroups_path[:80]!r} has more than {_LONGEST} characters", _PATH)
    return unit


def slice_folders(name: str) -> list[str]:
    """The folders of a slice: `a-b.slice` is ["a.slice", "a-b.slice"], the root slice `-.slice` is []. SpecError."""
    stem = name.removesuffix(".slice")
    if stem == "-":
        return []
    words = stem.split("-")
    if stem == name or "/" in name or "\0" in name or not all(words):
        raise SpecError(f"{name!r} in cgroupsPath is not the name of a slice of systemd", _PATH)
    return [f"{'-'.join(words[: n + 1])}.slice" for n in range(len(words))]
