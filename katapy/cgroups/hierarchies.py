"""Which cgroup hierarchies the host has mounted, and what linux.cgroupsPath means in them. CLI and supervisor.

Pure, but for `mounted`.
"""

from katapy.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_SEPARATOR = "-"


class Hierarchy:
    """One mounted hierarchy. `controllers`: of cgroup v1, as its mount options name them; empty for v2 (`unified`)."""

    def __init__(self, mountpoint: str, controllers: "frozenset[str]", unified: bool) -> None:
        self.mountpoint = mountpoint
        self.controllers = controllers
        self.unified = unified

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hierarchy) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.mountpoint)

    def __repr__(self) -> str:
        return f"Hierarchy({self.mountpoint!r}, {sorted(self.controllers)}, unified={self.unified})"


def parse_mountinfo(lines: "Iterable[str]") -> list[Hierarchy]:
    """Every hierarchy once, in the order of /proc/self/mountinfo. Lines that make no sense are left out."""
    found: dict[str, Hierarchy] = {}
    for line in lines:
        fields = line.split()
        if _SEPARATOR not in fields[6:]:
            continue
        kind, _, options, *_ = [*fields[fields.index(_SEPARATOR, 6) + 1 :], "", "", ""]
        if kind not in ("cgroup", "cgroup2"):
            continue
        unified = kind == "cgroup2"
        names = frozenset() if unified else frozenset(options.split(",")) - {"rw", "ro", "xattr", "clone_children"}
        found.setdefault(fields[2], Hierarchy(_unescape(fields[4]), names, unified))
    return list(found.values())


def mounted() -> list[Hierarchy]:
    """Those of the calling process's mount namespace."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        return parse_mountinfo(f)


def relative_path(cgroups_path: str, container_id: str) -> str:
    """linux.cgroupsPath below a hierarchy's top, without a leading slash; an empty one is the container's id.

    Relative paths start at the top as well. One in systemd's form (units.py) is the name of a folder, as it is to runc
    unless it is told to use systemd. Raises SpecError (`..`, NUL).
    """
    path = cgroups_path or f"/{container_id}"
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path or not parts:
        raise SpecError(f"cgroupsPath {path!r} is not a path below the top of a hierarchy", "$.linux.cgroupsPath")
    return "/".join(parts)


def _unescape(path: str) -> str:
    """mountinfo writes space, tab, newline and backslash as octal."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path
