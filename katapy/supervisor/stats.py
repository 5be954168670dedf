"""What the agent counts, in the shapes that runc prints (`events --stats`, `ps`). Supervisor only; pure.

The numbers are the guest's word: protobuf bounds their types, strings are cut and stripped here.
"""

from typing import Any

from katapy.agent_client.text import printable
from katapy.protocol import agent_pb2 as pb

Json = dict[str, Any]

_UNLIMITED = 2**64 - 1
_MAX_COMMAND = 4096
_MAX_PSI_ENTRY = 64


def process(entry: pb.Process) -> Json:
    return {
        "pid": entry.pid,
        "ppid": entry.ppid,
        "uid": entry.uid,
        "user": printable(entry.user, 64),
        "start": entry.start_unix_seconds,
        "cpu_seconds": entry.cpu_seconds,
        "tty": printable(entry.tty, 32),
        "command": printable(entry.command, _MAX_COMMAND),
    }


def runc_stats(reply: pb.StatsReply) -> Json:
    """The `data` of runc's stats event; fields that a guest with cgroup v2 can't know are zero or empty, as runc's
    are."""
    return {
        "cpu": {
            "usage": {
                "total": reply.cpu_usage * 1000,
                "percpu": None,
                "percpu_kernel": None,
                "percpu_user": None,
                "kernel": reply.cpu_system * 1000,
                "user": reply.cpu_user * 1000,
            },
            "throttling": {
                "periods": reply.cpu_periods,
                "throttledPeriods": reply.cpu_throttled_periods,
                "throttledTime": reply.cpu_throttled * 1000,
            },
            **_psi(reply, "cpu_psi"),
        },
        "cpuset": _cpuset(reply),
        "memory": _memory(reply),
        "pids": {"current": reply.pids_current, **({"limit": reply.pids_limit} if reply.pids_limit else {})},
        "blkio": _blkio(reply),
        "hugetlb": {
            printable(size, 16): {"usage": h.usage, "max": h.peak, "failcnt": h.failures}
            for size, h in reply.hugetlb.items()
        },
        "intel_rdt": {},
        "network_interfaces": None,
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
        "raw": {printable(k, _MAX_PSI_ENTRY): v for k, v in reply.memory_stat.items()},
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
    found: list[int] = []
    for part in cpuset[:1024].split(","):
        first, _, last = part.strip().partition("-")
        if not (first.isascii() and first.isdigit() and (not last or (last.isascii() and last.isdigit()))):
            return []
        found += range(int(first), min(int(last or first), int(first) + 4096) + 1)
    return found


def _blkio(reply: pb.StatsReply) -> Json:
    def entries(read: str, write: str) -> list[Json]:
        return [
            {"major": d.major, "minor": d.minor, "op": op, "value": getattr(d, field)}
            for d in reply.blkio
            for op, field in (("Read", read), ("Write", write))
        ]

    return {
        "ioServiceBytesRecursive": entries("read_bytes", "write_bytes"),
        "ioServicedRecursive": entries("reads", "writes"),
        **_psi(reply, "io_psi"),
    }


def _psi(reply: pb.StatsReply, field: str) -> Json:
    if not reply.HasField(field):  # type: ignore[arg-type]
        return {}
    psi: pb.Psi = getattr(reply, field)

    def pressure(p: pb.Pressure) -> Json:
        return {"avg10": p.avg10, "avg60": p.avg60, "avg300": p.avg300, "total": p.total}

    return {"psi": {"some": pressure(psi.some), "full": pressure(psi.full)}}
