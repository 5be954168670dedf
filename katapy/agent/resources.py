"""`linux.resources` of the OCI spec as writes to cgroup v2 files. Pure but for one reader; runs in the agent.

Conversions are crun's, so that an update to the value a container was created with changes nothing. Swap and block
weights have other units in v2: swap without memory, 1-10000 instead of 10-1000.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from katapy.errors import SpecError

Read = Callable[[str], str]
"""Text of one of the cgroup's files, empty if the kernel has none of that name."""
Write = tuple[str, str]
"""File name, value."""

DEFAULT_PERIOD_US = 100_000


def plan_writes(resources: Mapping[str, Any], read: Read) -> list[Write]:
    """What to write, in order. Raises SpecError with the JSON path of what is malformed."""
    sections = {"memory": _memory, "cpu": _cpu, "pids": _pids, "blockIO": _block_io}
    writes: list[Write] = []
    for name, plan in sections.items():
        if section := _object(resources, name):
            writes += plan(section, read)
    writes += _hugepages(_objects(resources, "hugepageLimits"))
    writes += _rdma(_object(resources, "rdma"))
    writes += _unified(_object(resources, "unified"))
    return writes


def _memory(memory: Mapping[str, Any], read: Read) -> Iterator[Write]:
    limit, swap = _integer(memory, "memory", "limit"), _integer(memory, "memory", "swap")
    reservation = _integer(memory, "memory", "reservation")
    _check_usage(memory, {"memory+swap": swap, "memory": limit}, read)
    if swap or (limit == -1 and swap is None):
        yield "memory.swap.max", _swap(limit, swap, read)
    if limit:
        yield "memory.max", _limit(limit)
    if reservation:
        yield "memory.low", _limit(reservation)


def _check_usage(memory: Mapping[str, Any], limits: Mapping[str, int | None], read: Read) -> None:
    """In runc's words."""
    usage = int(read("memory.current") or 0) if memory.get("checkBeforeUpdate") else 0
    for name, limit in limits.items():
        if limit and 0 < limit <= usage:
            raise SpecError(f"rejecting {name} limit {limit} <= usage {usage}", "$.memory")


def _swap(limit: int | None, swap: int | None, read: Read) -> str:
    """v2 counts swap alone, the spec memory and swap together."""
    if swap is None or swap < 0:
        return "max"
    if not limit:
        current = read("memory.max")
        limit = int(current) if current.isdecimal() else -1
    if limit < 0:
        raise SpecError("swap is limited but memory is not", "$.memory.swap")
    if swap < limit:
        raise SpecError("memory and swap together are less than memory", "$.memory.swap")
    return str(swap - limit)


def _cpu(cpu: Mapping[str, Any], read: Read) -> Iterator[Write]:
    idle, shares = _integer(cpu, "cpu", "idle"), _integer(cpu, "cpu", "shares")
    if idle is not None:
        yield "cpu.idle", str(idle)
    if shares and not idle:
        yield "cpu.weight", str(cpu_weight(shares))
    yield from _bandwidth(cpu, read)
    for name in ("cpus", "mems"):
        if value := cpu.get(name):
            yield f"cpuset.{name}", str(value)


def _bandwidth(cpu: Mapping[str, Any], read: Read) -> Iterator[Write]:
    """The burst may never exceed the quota, so whichever of them shrinks goes first."""
    quota, period = _integer(cpu, "cpu", "quota"), _integer(cpu, "cpu", "period")
    burst = _integer(cpu, "cpu", "burst")
    shrinks = burst is not None and burst < int(read("cpu.max.burst") or 0)
    if shrinks:
        yield "cpu.max.burst", str(burst)
    if quota or period:
        old_quota, _, old_period = read("cpu.max").partition(" ")
        new_quota = _limit(quota) if quota else old_quota or "max"
        yield "cpu.max", f"{new_quota} {period or old_period or DEFAULT_PERIOD_US}"
    if burst is not None and not shrinks:
        yield "cpu.max.burst", str(burst)


def cpu_weight(shares: int) -> int:
    """2..262144 to 1..10000, straight."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def _pids(pids: Mapping[str, Any], _read: Read) -> Iterator[Write]:
    limit = _integer(pids, "pids", "limit")
    if limit is not None:
        yield "pids.max", _limit(limit)


def _block_io(block: Mapping[str, Any], read: Read) -> Iterator[Write]:
    if weight := _integer(block, "blockIO", "weight"):
        yield _weight("", weight, read)
    for device in _objects(block, "weightDevice"):
        if weight := _integer(device, "blockIO.weightDevice", "weight"):
            yield _weight(f"{_device(device)} ", weight, read)
    for name, key in (
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ):
        for device in _objects(block, name):
            rate = _integer(device, f"blockIO.{name}", "rate")
            yield "io.max", f"{_device(device)} {key}={rate or 'max'}"


def _weight(prefix: str, weight: int, read: Read) -> Write:
    """BFQ knows the spec's range, io.weight has its own."""
    if read("io.bfq.weight"):
        return "io.bfq.weight", f"{prefix}{weight}"
    return "io.weight", f"{prefix or 'default '}{1 + (weight - 10) * 9999 // 990}"


def _device(device: Mapping[str, Any]) -> str:
    major, minor = _integer(device, "blockIO", "major"), _integer(device, "blockIO", "minor")
    if major is None or minor is None:
        raise SpecError("device without major or minor number", "$.blockIO")
    return f"{major}:{minor}"


def _hugepages(limits: list[Mapping[str, Any]]) -> Iterator[Write]:
    for limit in limits:
        size, value = str(limit.get("pageSize", "")), _integer(limit, "hugepageLimits", "limit")
        if not size.isalnum() or value is None:
            raise SpecError("page size or limit is malformed", "$.hugepageLimits")
        yield f"hugetlb.{size}.max", str(value)


def _rdma(devices: Mapping[str, Any]) -> Iterator[Write]:
    for name in devices:
        device = _object(devices, name)
        handles, objects = _integer(device, "rdma", "hcaHandles"), _integer(device, "rdma", "hcaObjects")
        yield "rdma.max", f"{name} hca_handle={_or_max(handles)} hca_object={_or_max(objects)}"


def _unified(files: Mapping[str, Any]) -> Iterator[Write]:
    for name, value in files.items():
        if "/" in name or "." not in name or name.startswith((".", "cgroup.")) or not isinstance(value, str):
            raise SpecError(f"{name!r} is no cgroup file that can be set", "$.unified")
        yield name, value


def _limit(value: int) -> str:
    return str(value) if value > 0 else "max"


def _object(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name) or {}
    if not isinstance(value, dict):
        raise SpecError(f"{name} is not an object", f"$.{name}")
    return value


def _objects(parent: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = parent.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise SpecError(f"{name} is not a list of objects", f"$.{name}")
    return value


def _or_max(value: int | None) -> str:
    return "max" if value is None else str(value)


def _integer(parent: Mapping[str, Any], path: str, name: str) -> int | None:
    value = parent.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise SpecError(f"{name} is not an integer", f"$.{path}.{name}")
    return value
