"""What the agent itself reads of the documents it passes to crun, checked. Pure; runs in the agent."""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from katapy.errors import SpecError, Unsupported
from katapy.protocol import names

ID = re.compile(r"(?!\.\.?$)[A-Za-z0-9_+.-]{1,200}")
"""runc's alphabet; the length leaves room in a file name."""


def check_id(what: str, value: str) -> str:
    """Raises SpecError unless `value` can be a file name and an id of crun's."""
    if not ID.fullmatch(value):
        raise SpecError(f"invalid {what} {value[:64]!r}: letters, digits and _+.- only")
    return value


def parse_object(what: str, data: bytes) -> dict[str, Any]:
    """A JSON object. Raises SpecError."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{what} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise SpecError(f"{what} is not a JSON object")
    return document


def wants_terminal(process: object) -> bool:
    return isinstance(process, dict) and process.get("terminal") is True


def cgroup_path(spec: Mapping[str, Any], container_id: str) -> str:
    """linux.cgroupsPath, which must lie below the containers' cgroup. Raises SpecError."""
    linux = spec.get("linux")
    path = linux.get("cgroupsPath") if isinstance(linux, dict) else None
    parent = f"{names.GUEST_CGROUP_ROOT}/"
    if not isinstance(path, str) or not path.startswith(parent) or os.path.normpath(path) != path:
        raise SpecError(f"cgroupsPath of {container_id} must be a path below {parent}", "$.linux.cgroupsPath")
    return path


def shared_sources(spec: Mapping[str, Any]) -> list[str]:
    """Sources of its mounts that are in the pod's share."""
    mounts = spec.get("mounts")
    sources = [m.get("source") for m in mounts if isinstance(m, dict)] if isinstance(mounts, list) else []
    return [s for s in sources if isinstance(s, str) and s.startswith(f"{names.GUEST_SHARED}/")]


def check_huge_pages(spec: Mapping[str, Any], pages: str = "/sys/kernel/mm/hugepages") -> None:
    """Raises Unsupported for a hugetlbfs in a guest without huge pages, where whoever maps it would be killed."""
    mounts = spec.get("mounts")
    wanted = [m for m in mounts if isinstance(m, dict) and m.get("type") == "hugetlbfs"] if mounts else []
    if wanted and not any(_count(f"{pages}/{size}/nr_hugepages") for size in os.listdir(pages)):
        raise Unsupported(
            f"mount of a hugetlbfs to {str(wanted[0].get('destination'))[:200]} is not supported: the guest has no "
            "huge pages; hypervisor.kernel_parameters in katapy.yaml can give it some (hugepages=64)"
        )


def _count(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read())


def check_sub_cgroup(path: str) -> None:
    """Raises SpecError unless `path` stays below the container's cgroup; empty is the container's cgroup itself."""
    if path and (os.path.isabs(path) or os.path.normpath(path) != path or path.split("/")[0] in (".", "..")):
        raise SpecError(f"unable to create new parent process: {path[:200]} is not a sub cgroup path")
