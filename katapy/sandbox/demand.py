"""How big a machine has to be: from the limits of its containers. Pure; runs in the CLI (planning) and the supervisor.

The configured size serves kernel, agent and page cache, and what has no limit. Limits come on top of half of it: the
machine must be larger than the container, or the guest's kernel would run short of memory before the limit does.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from katapy.errors import SpecError
from katapy.hypervisor.vm import Size

MIB = 1024 * 1024
_DEFAULT_PERIOD_US = 100_000
STEP_MIB = 128
"""A Linux guest takes memory in blocks of this size."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Of one container. cpus: by its quota, 0 for none; cpuset: one more than its highest processor; memory_mib: its
    limit, 0 for none. least: what its annotations ask for, 0 for nothing."""

    cpus: float = 0.0
    cpuset: int = 0
    memory_mib: int = 0
    least_vcpus: int = 0
    least_memory_mib: int = 0


NO_DEMAND = Demand()


def demand_of(resources: Mapping[str, Any], least: Size | None = None) -> Demand:
    """Of linux.resources. Raises SpecError (cpuset)."""
    least = least or Size(0, 0)
    cpu, memory = resources.get("cpu") or {}, resources.get("memory") or {}
    return Demand(
        cpus=_cpus(cpu),
        cpuset=_highest_cpu(cpu["cpus"]) + 1 if cpu.get("cpus") else 0,
        memory_mib=max(0, memory.get("limit") or 0) // MIB,
        least_vcpus=least.vcpus,
        least_memory_mib=least.memory_mib,
    )


def updated(old: Demand, resources: Mapping[str, Any]) -> Demand:
    """After an update, which changes what it names. Raises SpecError."""
    new = demand_of(resources)
    cpu, memory = resources.get("cpu") or {}, resources.get("memory") or {}
    return Demand(
        cpus=new.cpus if cpu.get("quota") else old.cpus,
        cpuset=new.cpuset or old.cpuset,
        memory_mib=new.memory_mib if memory.get("limit") else old.memory_mib,
        least_vcpus=old.least_vcpus,
        least_memory_mib=old.least_memory_mib,
    )


def larger(one: Demand, other: Demand) -> Demand:
    """Enough for either."""
    return Demand(*(max(pair) for pair in zip(astuple(one), astuple(other), strict=True)))


def wanted_size(least: Size, reserve_mib: int, demands: Collection[Demand]) -> Size:
    """For all of them together, and never below `least`. reserve_mib: what is not theirs."""
    vcpus = math.ceil(sum(d.cpus for d in demands))
    vcpus = max([least.vcpus, vcpus, *(max(d.cpuset, d.least_vcpus) for d in demands)])
    memory = sum(d.memory_mib for d in demands)
    memory = reserve_mib + memory if memory else 0
    return Size(vcpus, max([least.memory_mib, memory, *(d.least_memory_mib for d in demands)]))


def grown_size(boot: Size, most: Size, wanted: Size) -> Size:
    """Of a machine that was booted with `boot`, no larger than `wanted`, and can grow to `most`."""
    steps = math.ceil((wanted.memory_mib - boot.memory_mib) / STEP_MIB)
    return Size(min(wanted.vcpus, most.vcpus), min(boot.memory_mib + steps * STEP_MIB, most.memory_mib))


def _cpus(cpu: Mapping[str, Any]) -> float:
    quota, period = cpu.get("quota") or 0, cpu.get("period") or _DEFAULT_PERIOD_US
    return quota / period if quota > 0 else 0.0


def _highest_cpu(cpuset: str) -> int:
    """Of a list such as `0-2,5`."""
    try:
        return max(int(number) for part in cpuset.split(",") for number in part.split("-"))
    except ValueError as e:
        raise SpecError(f"invalid cpuset {cpuset!r}", "$.linux.resources.cpu.cpus") from e
