"""Which pod does a bundle belong to? Pure: what there is on the host comes in as a `World`. Runs in the CLI.

Engines say it by annotations; what they write differs:

| engine | container type | sandbox |
|---|---|---|
| containerd's CRI | `io.kubernetes.cri.container-type` | `io.kubernetes.cri.sandbox-id` |
| CRI-O | `io.kubernetes.cri-o.ContainerType` | `io.kubernetes.cri-o.SandboxID` |
| Podman | only before 4.4 | `io.kubernetes.cri-o.SandboxID`: the infra container's id, or the pod's id or name |
| cri-dockerd | `io.kubernetes.docker.type` | `io.kubernetes.sandbox.id` |

What is not a container's id is found by the namespaces: whoever joins those of a living container belongs to its pod.
A claim alone opens no door: a member must share a namespace with the pod, and its others are the pod's or new ones.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from katapy.errors import NotFound, SpecError, Unsupported, WrongStatus
from katapy.linux.namespaces import SHOWN, entry
from katapy.protocol import names
from katapy.sandbox.store import State

_TYPES = ("io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType", "io.kubernetes.docker.type")
_SANDBOXES = ("io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID", "io.kubernetes.sandbox.id")
_OWNERS = ("sandbox", "podsandbox")
_PROC = re.compile(r"/proc/(\d+)/ns/[a-z]+")

Namespaces = Sequence[tuple[str, str | None]]


@dataclass(frozen=True, slots=True)
class World:
    """What is looked up. `find(id)`: a container's state, None if there is none (or a damaged one).

    living(): all containers that have a stand-in. same(a, b): whether both paths name the same namespace.
    """

    find: Callable[[str], State | None]
    living: Callable[[], Sequence[State]]
    same: Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class Pod:
    """The pod that a container joins. joined: kind of namespace -> id of the container whose it enters."""

    sandbox: State
    joined: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Claim:
    """What annotations say: a sandbox's id or name; `certain`: without it the container makes no sense."""

    sandbox: str
    certain: bool


def claim(container_id: str, annotations: Mapping[str, str]) -> Claim | None:
    """None: a container of its own, or a sandbox. Raises SpecError."""
    kind = _first(annotations, _TYPES)
    sandbox = _first(annotations, _SANDBOXES)
    if kind in _OWNERS or sandbox == container_id:
        return None
    if kind == "container" and not sandbox:
        raise SpecError("an annotation says that this is a container of a pod, but none says of which", "$.annotations")
    return Claim(sandbox, kind == "container") if sandbox else None


def find_pod(container_id: str, annotations: Mapping[str, str], namespaces: Namespaces, world: World) -> Pod | None:
    """The pod this container joins, None if it has a machine of its own.

    Raises NotFound (a sandbox that is gone), WrongStatus (one that has ended), Unsupported (namespaces of strangers).
    """
    claimed = claim(container_id, annotations)
    if claimed is None and _first(annotations, _TYPES) in _OWNERS:
        return None
    named = world.find(claimed.sandbox) if claimed else None
    if named is None:
        named = _by_namespaces(namespaces, world, visible=claimed is not None)
    if named is None:
        if claimed is not None and claimed.certain:
            raise NotFound(f"the sandbox {claimed.sandbox[:80]} of this container does not exist")
        return None
    sandbox = named if named.sandbox == named.id else world.find(named.sandbox)
    if sandbox is None or sandbox.status not in ("created", "running", "paused"):
        raise WrongStatus(f"the sandbox {named.sandbox} of this container is not running")
    members = [sandbox, *(s for s in world.living() if s.sandbox == sandbox.id and s.id != sandbox.id)]
    return Pod(sandbox, _joined(namespaces, members, world))


def _first(annotations: Mapping[str, str], keys: Sequence[str]) -> str:
    return next((annotations[key] for key in keys if annotations.get(key)), "")


def _by_namespaces(namespaces: Namespaces, world: World, visible: bool) -> State | None:
    """The container whose namespace is joined: named as /proc/<stand-in>/ns/..., or the same one (`visible`)."""
    paths = [(kind, path) for kind, path in namespaces if path and kind in names.JOINABLE]
    if not visible:
        paths = [(kind, path) for kind, path in paths if _PROC.fullmatch(path)]
    if not paths:
        return None
    living = world.living()
    return next((state for state in living for kind, path in paths if _is_of(kind, path, state, world)), None)


def _is_of(kind: str, path: str, state: State, world: World) -> bool:
    """Whether `path` is the container's namespace. A stand-in's pid namespace is the host's: only its name counts."""
    if (match := _PROC.fullmatch(path)) and int(match[1]) == state.pid:
        return True
    return kind in SHOWN and world.same(path, f"/proc/{state.pid}/ns/{entry(kind)}")


def _joined(namespaces: Namespaces, members: Sequence[State], world: World) -> dict[str, str]:
    joined = {}
    for kind, path in namespaces:
        if path is None:
            continue
        owner = next((m.id for m in members if kind in names.JOINABLE and _is_of(kind, path, m, world)), None)
        if owner is None:
            raise Unsupported(f"the {kind} namespace {path} is not one of the pod {members[0].id}")
        joined[kind] = owner
    if "network" not in dict(namespaces):
        raise Unsupported("host networking is not supported: a container of a pod shares the pod's network")
    if not joined:
        raise Unsupported(f"annotations name the pod {members[0].id}, but the container joins none of its namespaces")
    return joined
