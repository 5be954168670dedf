"""plan(): from an id, a bundle, the configuration and facts about the host to a frozen SandboxPlan. Pure; runs in the
CLI.

After it nothing reads argv, environment, configuration or the spec again. Effects take a piece of the plan.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from katapy.errors import SpecError, Unsupported
from katapy.hypervisor.vm import Accelerator, ShareType, Transport
from katapy.protocol import names
from katapy.sandbox import guest_spec
from katapy.sandbox.annotations import Sizing, granted
from katapy.sandbox.sources import Memory, Source, SourceKind
from katapy.storage.shared_directory import ReadOnly
from katapy.storage.virtiofsd import Virtiofsd

MIB = 1024 * 1024
_NOT_YET = ""
"""The guest's path of a bind: the supervisor puts it in (guest_spec.place_binds)."""
_POD_OWNED = "/kubernetes.io~empty-dir/"
"""In the path of a volume that lives and dies with its pod: the host has no reason to guard it from the pod."""
_READ_ONLY = {"ro": ReadOnly.TOP, "rro": ReadOnly.ALL, "rw": ReadOnly.NO, "rrw": ReadOnly.NO}


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What `plan` has to know of the host: found by probes before it. `warning`: one sentence for the log, or empty."""

    cpus: int
    arch: str
    qemu: str
    accelerator: Accelerator
    cpu_model: str
    transport: Transport
    share: ShareType
    virtiofsd: Virtiofsd | None
    groups: tuple[int, ...]
    generation_id: bool
    qemu_version: tuple[int, ...] = ()
    warning: str = ""
    memory_mib: int = 1024 * 1024
    """The host's."""


@dataclass(frozen=True, slots=True)
class BindPlan:
    """One bind mount: `index` in spec.mounts, host `source`; `readonly` is enforced on the host too."""

    index: int
    source: str
    readonly: ReadOnly
    recursive: bool


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """One container. `spec_json` is what crun gets; `process` is kept as what `exec` starts from."""

    id: str
    bundle: str
    rootfs: str
    spec_json: bytes
    process: Mapping[str, Any]
    binds: tuple[BindPlan, ...]
    memory: tuple[Memory, ...]
    namespaces: tuple[tuple[str, str | None], ...]
    hostname: str
    cgroups_path: str
    terminal: bool
    console_size: tuple[int, int] | None
    annotations: Mapping[str, str]
    oci_version: str
    guest_writes: bool = False


@dataclass(frozen=True, slots=True)
class MachinePlan:
    """A machine. `id`: the sandbox's, or a name for one that waits for its pod."""

    id: str
    vcpus: int
    memory_mib: int
    facts: HostFacts


@dataclass(frozen=True, slots=True)
class SandboxPlan(MachinePlan):
    """One pod: its machine and its first container."""

    container: ContainerPlan


def plan_container(
    container_id: str,
    bundle: str,
    spec: Mapping[str, Any],
    sources: Mapping[int, Source],
    joined: Mapping[str, str] | None = None,
    guest_writes: bool = False,
) -> ContainerPlan:
    """The container of a validated spec. `joined`: namespaces of its pod that it enters (sandbox/pods.py), None for the
    first of a machine. `guest_writes`: what it changes in its root file system stays in the guest.

    Raises Unsupported, SpecError.
    """
    mounts = spec.get("mounts") or []
    shared = {i: s for i, s in sources.items() if s.kind in (SourceKind.DIRECTORY, SourceKind.FILE)}
    guest_paths = dict.fromkeys(shared, _NOT_YET)
    guest_paths |= {i: s.path for i, s in sources.items() if s.kind is SourceKind.DEVICE}
    memory = {i: s.memory for i, s in sources.items() if s.memory is not None}
    guest_paths |= {i: f"{names.GUEST_TMPFS}/{m.name}" for i, m in memory.items()}
    document = guest_spec.guest_spec(dict(spec), container_id, guest_paths, joined)
    if guest_writes:
        document["root"]["path"] = names.guest_writable_root(container_id)
    process = spec.get("process") or {}
    return ContainerPlan(
        id=container_id,
        bundle=bundle,
        rootfs=_join(bundle, spec["root"]["path"]),
        spec_json=json.dumps(document, separators=(",", ":")).encode(),
        process=process,
        binds=tuple(_bind(i, s.path, mounts[i]) for i, s in shared.items()),
        memory=tuple(memory.values()),
        namespaces=namespaces(spec),
        hostname=spec.get("hostname") or "",
        cgroups_path=(spec.get("linux") or {}).get("cgroupsPath") or "",
        terminal=bool(process.get("terminal")),
        console_size=console_size(process),
        annotations=dict(spec.get("annotations") or {}),
        oci_version=spec["ociVersion"],
        guest_writes=guest_writes,
    )


def plan_sandbox(container: ContainerPlan, spec: Mapping[str, Any], sizing: Sizing, facts: HostFacts) -> SandboxPlan:
    """The machine for a single container. Raises Unsupported."""
    kinds = {kind for kind, _ in container.namespaces}
    if "network" not in kinds:
        raise Unsupported(
            "host networking is not supported: a virtual machine has a network stack of its own; "
            "add a network namespace to the spec"
        )
    resources = (spec.get("linux") or {}).get("resources") or {}
    pod = granted(container.annotations)
    return SandboxPlan(
        id=container.id,
        vcpus=_vcpus(resources.get("cpu") or {}, pod.get("cpu") or {}, sizing.vcpus, facts.cpus),
        memory_mib=min(
            _memory_mib({**(resources.get("memory") or {}), **(pod.get("memory") or {})}, sizing.memory_mib),
            max(facts.memory_mib, sizing.memory_mib),
        ),
        facts=facts,
        container=container,
    )


def console_size(process: Mapping[str, Any]) -> tuple[int, int] | None:
    """Columns and rows that a process object asks for."""
    size = process.get("consoleSize")
    return (size["width"], size["height"]) if size else None


def _join(bundle: str, path: str) -> str:
    return path if path.startswith("/") else f"{bundle}/{path}"


def _bind(index: int, source: str, mount: Mapping[str, Any]) -> BindPlan:
    options = mount.get("options") or []
    readonly = ReadOnly.NO
    for option in options:  # the last one wins, as with mount(8)
        readonly = _READ_ONLY.get(option, readonly)
    if readonly is ReadOnly.TOP and _POD_OWNED in source:
        readonly = ReadOnly.NO  # the guest keeps this container from writing; another one is to be seen at once
    return BindPlan(index, source, readonly, "rbind" in options)


def namespaces(spec: Mapping[str, Any]) -> tuple[tuple[str, str | None], ...]:
    """(type, path or None for a new one) of linux.namespaces."""
    listed = (spec.get("linux") or {}).get("namespaces") or []
    return tuple((n["type"], n.get("path") or None) for n in listed)


def _vcpus(cpu: Mapping[str, Any], pod: Mapping[str, int], default: int, available: int) -> int:
    """Enough for the quota (of the container or of the pod) and for the cpuset, at most what the host has.

    A pod without a quota may use what is free: its shares say how much it counts on.
    """
    wanted = default
    for limits in (cpu, pod):
        quota, period = limits.get("quota") or 0, limits.get("period") or 100_000
        if quota > 0:
            wanted = max(wanted, math.ceil(quota / period))
    if not pod.get("quota"):
        wanted = max(wanted, math.ceil(pod.get("shares", 0) / 1024))
    if cpu.get("cpus"):
        wanted = max(wanted, _highest_cpu(cpu["cpus"]) + 1)
    return max(1, min(wanted, max(available, default)))


def _highest_cpu(cpuset: str) -> int:
    """Of a list such as `0-2,5`."""
    try:
        return max(int(number) for part in cpuset.split(",") for number in part.split("-"))
    except ValueError as e:
        raise SpecError(f"invalid cpuset {cpuset!r}", "$.linux.resources.cpu.cpus") from e


def _memory_mib(memory: Mapping[str, Any], default: int) -> int:
    """The configured size serves kernel, agent and page cache; a container's limit above half of it comes on top."""
    limit = (memory.get("limit") or 0) // MIB
    return default if limit <= default // 2 else default // 2 + limit


SHARE_OPTIONS = {
    ShareType.VIRTIOFS: (),
    ShareType.NINEP: ("trans=virtio", "version=9p2000.L", "msize=512000", "cache=mmap", "access=any"),
}
"""Mount data of the share in the guest (docs/decisions/0001-shared-root.md)."""
