"""What the agent counts, in the shapes that runc prints (`events --stats`, `ps`). Supervisor only; pure.

The numbers are the guest's word: protobuf bounds their types; here they are kept within what JSON and Go can hold,
lists are cut, strings are cut and stripped.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Literal

from katapy.agent_client.text import printable
from katapy.linux.rtnetlink import COUNTERS
from katapy.protocol import agent_pb2 as pb

Json = dict[str, Any]

_UNLIMITED = 2**64 - 1
_MAX_COMMAND = 4096
_MAX_NAME = 64
_MAX_ENTRIES = 256
"""Of any list: memory.stat has some fifty, and a machine has few disks."""
_MAX_CPUS = 4096
_GO_NAMES = {name: name.title().replace("_", "") for name in ("name", *COUNTERS)}
"""runc's structure for an interface has no names for JSON, so it has Go's."""


def process(entry: pb.Process) -> Json:
    return {
        "pid": entry.pid,
        "ppid": entry.ppid,
        "uid": entry.uid,
        "user": printable(entry.user, 64),
        "start": entry.start_unix_seconds,
        "cpu_seconds": _finite(entry.cpu_seconds),
        "tty": printable(entry.tty, 32),
        "command": printable(entry.command, _MAX_COMMAND),
        "name": printable(entry.name, _MAX_NAME),
        "state": printable(entry.state, 1),
        "virtual_bytes": entry.virtual_bytes,
        "resident_bytes": entry.resident_bytes,
        "resident_share": _finite(entry.resident_share),
    }


def runc_stats(reply: pb.StatsReply, interfaces: Sequence[Mapping[str, int | str]] = ()) -> Json:
    """The `data` of runc's stats event; fields that a guest with cgroup v2 can't know are zero or empty, as runc's
    are. `interfaces`: what the host has counted."""
    return {
        "cpu": {
            "usage": {
                "total": _nanoseconds(reply.cpu_usage),
                "percpu": None,
                "percpu_kernel": None,
                "percpu_user": None,
                "kernel": _nanoseconds(reply.cpu_system),
                "user": _nanoseconds(reply.cpu_user),
            },
            "throttling": {
                "periods": reply.cpu_periods,
                "throttledPeriods": reply.cpu_throttled_periods,
                "throttledTime": _nanoseconds(reply.cpu_throttled),
            },
            **_psi(reply, "cpu_psi"),
        },
        "cpuset": _cpuset(reply),
        "memory": _memory(reply),
        "pids": {"current": reply.pids_current, **({"limit": reply.pids_limit} if reply.pids_limit else {})},
        "blkio": _blkio(reply),
        "hugetlb": {
            printable(size, 16): {"usage": h.usage, "max": h.peak, "failcnt": h.failures}
            for size, h in islice(reply.hugetlb.items(), _MAX_ENTRIES)
        },
        "intel_rdt": {},
        "network_interfaces": [{_GO_NAMES[k]: v for k, v in i.items()} for i in interfaces] or None,
    }


def _memory(reply: pb.StatsReply) -> Json:
    usage = _usage(reply.memory_limit, reply.memory_usage, reply.memory_peak, reply.memory_failures)
    swap = _usage(reply.swap_limit, reply.swap_usage, 0, 0)
    return {
        "cache": reply.memory_stat.get("file", 0),
        "usage": usage,
        "swap": swap,
        "kernel": _usage(0, reply.memory_stat.get("kernel", 0), 0, 0),
        "kernelTCP": _usage(0, reply.memory_stat.get("sock", 0), 0, 0),
        "raw": {printable(k, _MAX_NAME): v for k, v in islice(reply.memory_stat.items(), _MAX_ENTRIES)},
        **_psi(reply, "memory_psi"),
    }


def _usage(limit: int, usage: int, peak: int, failures: int) -> Json:
    return {"limit": min(limit, _UNLIMITED), "usage": usage, "max": peak, "failcnt": failures}


def _cpuset(reply: pb.StatsReply) -> Json:
    flags = (
        "cpu_exclusive",
        "mem_hardwall",
        "mem_exclusive",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
    )
    return {
        "cpus": _numbers(reply.cpuset_cpus),
        "mems": _numbers(reply.cpuset_mems),
        **dict.fromkeys((*flags, "memory_pressure", "sched_load_balance", "sched_relax_domain_level"), 0),
    }


def _numbers(cpuset: str) -> list[int]:
    """`0-2,5` -> [0, 1, 2, 5]; a guest that writes nonsense gets an empty list."""
    found: set[int] = set()
    for part in cpuset[:1024].split(","):
        first, _, last = part.strip().partition("-")
        if not (_is_small(first) and (not last or _is_small(last))):
            return []
        found.update(range(int(first), min(int(last or first), _MAX_CPUS) + 1))
    return sorted(found)


def _is_small(number: str) -> bool:
    return number.isascii() and number.isdigit() and len(number) < 10


def _nanoseconds(microseconds: int) -> int:
    """Engines read 64 bits."""
    return min(microseconds * 1000, _UNLIMITED)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _blkio(reply: pb.StatsReply) -> Json:
    def entries(read: str, write: str) -> list[Json]:
        return [
            {"major": d.major, "minor": d.minor, "op": op, "value": getattr(d, field)}
            for d in reply.blkio[:_MAX_ENTRIES]
            for op, field in (("Read", read), ("Write", write))
        ]

    return {
        "ioServiceBytesRecursive": entries("read_bytes", "write_bytes"),
        "ioServicedRecursive": entries("reads", "writes"),
        **_psi(reply, "io_psi"),
    }


def _psi(reply: pb.StatsReply, field: Literal["cpu_psi", "memory_psi", "io_psi"]) -> Json:
    if not reply.HasField(field):
        return {}
    psi: pb.Psi = getattr(reply, field)

    def pressure(p: pb.Pressure) -> Json:
        averages = {"avg10": _finite(p.avg10), "avg60": _finite(p.avg60), "avg300": _finite(p.avg300)}
        return {**averages, "total": p.total}

    return {"psi": {"some": pressure(psi.some), "full": pressure(psi.full)}}
