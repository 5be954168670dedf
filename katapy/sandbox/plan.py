"""plan(): from an id, a bundle, the configuration and facts about the host to a frozen SandboxPlan. Pure; runs in the
CLI.

After it nothing reads argv, environment, configuration or the spec again. Effects take a piece of the plan.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from katapy.config import Hypervisor
from katapy.errors import SpecError, Unsupported
from katapy.hypervisor.vm import Accelerator, ShareType, Size, Transport
from katapy.protocol import names
from katapy.sandbox import guest_spec
from katapy.sandbox.annotations import granted
from katapy.sandbox.blocks import BlockPlan
from katapy.sandbox.demand import NO_DEMAND, STEP_MIB, Demand, demand_of, wanted_size
from katapy.sandbox.id_maps import plan_id_maps
from katapy.sandbox.mount_points import plan_mount_points
from katapy.sandbox.sources import EMPTY_DIR, Memory, Source, SourceKind
from katapy.storage.mount_points import MountPoints
from katapy.storage.overlay import Overlay
from katapy.storage.shared_directory import Bind, IdMap, ReadOnly
from katapy.storage.virtiofsd import Virtiofsd

_CPU_HOTPLUG = ("x86_64",)
"""QEMU's machine `virt` of aarch64 has none."""
_MOST_VCPUS = 16
"""Unless configured: the guest's kernel keeps a quarter of a MiB for each processor that may come."""
_MOST_GROWTH = 8
"""Times the size of a template that its clones grow to: the guest's kernel keeps 16 MiB for each GiB, of what it
started with, and Resize is not to take longer than a boot."""
_MAX_SPEC = names.MAX_MESSAGE - 64 * 1024
"""Bytes; in one message to the agent, with little beside it."""
_NOT_YET = ""
"""The guest's path of a bind: the supervisor puts it in (guest_spec.place_binds)."""
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
    """One bind mount: `index` in spec.mounts, host `source`; `readonly` and `id_map` are the host's affair too.

    overlay: what the host mounts to be bound; then `source` is words for errors.
    """

    index: int
    source: str
    readonly: ReadOnly
    recursive: bool
    id_map: IdMap | None = None
    overlay: Overlay | None = None

    def of_tree(self, tree: int | None) -> Bind:
        """What is shared, once its tree is there; None: it is opened by path."""
        return Bind(self.source, self.readonly, self.recursive, tree, self.id_map, self.overlay)


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
    blocks: tuple[BlockPlan, ...] = ()
    demand: Demand = NO_DEMAND
    mount_points: MountPoints | None = None


@dataclass(frozen=True, slots=True)
class MachinePlan:
    """A machine. `id`: the sandbox's, or a name for one that waits for its pod."""

    id: str
    vcpus: int
    memory_mib: int
    facts: HostFacts


@dataclass(frozen=True, slots=True)
class SandboxPlan(MachinePlan):
    """One pod: its machine, how far it may grow, and its first container.

    least: what the pod is to have, whatever its containers' limits say; reserve_mib: of the machine's memory, what is
    not its containers'.
    """

    container: ContainerPlan
    least: Size
    most: Size
    reserve_mib: int


def plan_container(
    container_id: str,
    bundle: str,
    spec: Mapping[str, Any],
    sources: Mapping[int, Source],
    joined: Mapping[str, str] | None = None,
    guest_writes: bool = False,
    blocks: tuple[BlockPlan, ...] = (),
    least: Size | None = None,
) -> ContainerPlan:
    """The container of a validated spec. `joined`: namespaces of its pod that it enters (sandbox/pods.py), None for the
    first of a machine. `guest_writes`: what it changes in its root file system stays in the guest. `blocks`: the
    host's block devices that it gets. `least`: the size of the machine that its annotations ask for.

    Raises Unsupported, SpecError.
    """
    mounts = spec.get("mounts") or []
    shared = {i: s for i, s in sources.items() if s.kind in (SourceKind.DIRECTORY, SourceKind.FILE)}
    maps = plan_id_maps(spec, sources)
    guest_paths = dict.fromkeys([*shared, *(b.mount for b in blocks if b.mount >= 0)], _NOT_YET)
    guest_paths |= {i: s.path for i, s in sources.items() if s.kind is SourceKind.DEVICE}
    memory = {i: s.memory for i, s in sources.items() if s.memory is not None}
    guest_paths |= {i: f"{names.GUEST_TMPFS}/{m.name}" for i, m in memory.items()}
    inherited = {i: s.flags for i, s in shared.items()}
    document = guest_spec.guest_spec(dict(spec), container_id, guest_paths, joined, inherited)
    if guest_writes:
        document["root"]["path"] = names.guest_writable_root(container_id)
    spec_json = json.dumps(document, separators=(",", ":")).encode()
    if len(spec_json) > _MAX_SPEC:
        raise SpecError(f"the spec is too long for the guest: {len(spec_json)} bytes, {_MAX_SPEC} at most", "$")
    process = spec.get("process") or {}
    return ContainerPlan(
        id=container_id,
        bundle=bundle,
        rootfs=_join(bundle, spec["root"]["path"]),
        spec_json=spec_json,
        process=process,
        binds=tuple(_bind(i, s, mounts[i], maps.get(i)) for i, s in shared.items()),
        memory=tuple(memory.values()),
        namespaces=namespaces(spec),
        hostname=spec.get("hostname") or "",
        cgroups_path=(spec.get("linux") or {}).get("cgroupsPath") or "",
        terminal=bool(process.get("terminal")),
        console_size=console_size(process),
        annotations=dict(spec.get("annotations") or {}),
        oci_version=spec["ociVersion"],
        guest_writes=guest_writes,
        blocks=blocks,
        demand=demand_of((spec.get("linux") or {}).get("resources") or {}, least),
        mount_points=None if guest_writes else plan_mount_points(spec, sources),
    )


def plan_sandbox(
    container: ContainerPlan, sizing: Size, facts: HostFacts, hypervisor: Hypervisor, cloned: bool = False
) -> SandboxPlan:
    """The machine that starts for a container. `cloned`: it starts as small as a template, and grows before its
    container is created; else it boots in its size. Raises Unsupported, SpecError.
    """
    kinds = {kind for kind, _ in container.namespaces}
    if "network" not in kinds:
        raise Unsupported(
            "host networking is not supported: a virtual machine has a network stack of its own; "
            "add a network namespace to the spec"
        )
    least = _pod_size(container, sizing, facts, hypervisor)
    boot = _capped(wanted_size(least, sizing.memory_mib // 2, [container.demand]), sizing, facts, hypervisor)
    if cloned:
        boot = _template_size(boot, facts, hypervisor)
    return SandboxPlan(
        id=container.id,
        vcpus=boot.vcpus,
        memory_mib=boot.memory_mib,
        least=least,
        most=most_size(boot, hypervisor, facts),
        reserve_mib=sizing.memory_mib // 2,
        facts=facts,
        container=container,
    )


def _pod_size(container: ContainerPlan, sizing: Size, facts: HostFacts, hypervisor: Hypervisor) -> Size:
    """What configuration and annotations ask for.

    A pod without a quota may use what is free: its shares say how much it counts on.
    """
    pod = granted(container.annotations)
    shares = 0 if pod.get("cpu", {}).get("quota") else pod.get("cpu", {}).get("shares", 0)
    least = Size(max(1, sizing.vcpus, math.ceil(shares / 1024)), sizing.memory_mib)
    return _capped(wanted_size(least, least.memory_mib // 2, [demand_of(pod)]), sizing, facts, hypervisor)


def _capped(wanted: Size, sizing: Size, facts: HostFacts, hypervisor: Hypervisor) -> Size:
    """At most what the host has and the configuration allows, and never below `sizing`."""
    most_vcpus, most_memory = hypervisor.max_vcpus or facts.cpus, hypervisor.max_memory_mib or facts.memory_mib
    return Size(
        min(wanted.vcpus, max(most_vcpus, sizing.vcpus)), min(wanted.memory_mib, max(most_memory, sizing.memory_mib))
    )


def _template_size(wanted: Size, facts: HostFacts, hypervisor: Hypervisor) -> Size:
    """Of the template that a machine of that size is cloned from: few sizes for all. The configured one, where it can
    grow from that; else one of several times its memory. Processors that can't come later are there from the start."""
    memory, vcpus = hypervisor.memory_mib, hypervisor.vcpus
    while memory * _MOST_GROWTH < wanted.memory_mib:
        memory *= _MOST_GROWTH
    if most_size(Size(vcpus, memory), hypervisor, facts).vcpus < wanted.vcpus:
        vcpus = wanted.vcpus
    return Size(min(vcpus, wanted.vcpus), min(memory, wanted.memory_mib))


def console_size(process: Mapping[str, Any]) -> tuple[int, int] | None:
    """Columns and rows that a process object asks for."""
    size = process.get("consoleSize")
    return (size["width"], size["height"]) if size else None


def _join(bundle: str, path: str) -> str:
    return path if path.startswith("/") else f"{bundle}/{path}"


def _bind(index: int, source: Source, mount: Mapping[str, Any], id_map: IdMap | None) -> BindPlan:
    options = mount.get("options") or []
    readonly = ReadOnly.NO
    for option in options:  # the last one wins, as with mount(8)
        readonly = _READ_ONLY.get(option, readonly)
    if readonly is ReadOnly.TOP and EMPTY_DIR in source.path:
        # It lives and dies with its pod: the host need not guard it. The guest keeps this container from writing, and
        # sees at once what another one writes.
        readonly = ReadOnly.NO
    return BindPlan(index, source.path, readonly, "rbind" in options, id_map, source.overlay)


def namespaces(spec: Mapping[str, Any]) -> tuple[tuple[str, str | None], ...]:
    """(type, path or None for a new one) of linux.namespaces."""
    listed = (spec.get("linux") or {}).get("namespaces") or []
    return tuple((n["type"], n.get("path") or None) for n in listed)


def most_size(boot: Size, config: Hypervisor, facts: HostFacts) -> Size:
    """How far a machine can grow: as configured, else as far as the host goes. No emulated one gets more processors."""
    plugged = facts.arch in _CPU_HOTPLUG and facts.accelerator is Accelerator.KVM
    vcpus = (config.max_vcpus or min(facts.cpus, _MOST_VCPUS)) if plugged else boot.vcpus
    steps = max(0, (config.max_memory_mib or facts.memory_mib) - boot.memory_mib) // STEP_MIB
    return Size(max(boot.vcpus, vcpus), boot.memory_mib + steps * STEP_MIB)


SHARE_OPTIONS = {
    ShareType.VIRTIOFS: (),
    ShareType.NINEP: ("trans=virtio", "version=9p2000.L", "msize=512000", "cache=mmap", "access=any"),
}
"""Mount data of the share in the guest (docs/decisions/0001-shared-root.md)."""
