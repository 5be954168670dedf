"""A cgroup's files as a StatsReply. Runs in the agent. What the kernel lacks stays zero or empty."""

import re
from collections.abc import Callable

from katapy.agent.cgroup import parse_flat
from katapy.protocol import agent_pb2 as pb

Read = Callable[[str], str]

UNLIMITED = 2**64 - 1
HUGE_PAGES = "/sys/kernel/mm/hugepages"
_PRESSURE = re.compile(r"(some|full) avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+) total=(\d+)")


def collect(read: Read, page_sizes: list[str]) -> pb.StatsReply:
    """`read` gives the text of a file of the cgroup, or "". `page_sizes` are those of huge pages, such as "2MB"."""
    reply = pb.StatsReply(memory_stat=parse_flat(read("memory.stat")), blkio=parse_io(read("io.stat")))
    _cpu(reply, parse_flat(read("cpu.stat")))
    _memory(reply, read)
    reply.pids_current = number(read("pids.current"))
    reply.pids_limit = number(read("pids.max"))
    reply.cpuset_cpus = read("cpuset.cpus.effective")
    reply.cpuset_mems = read("cpuset.mems.effective")
    for size in page_sizes:
        reply.hugetlb[size].usage = number(read(f"hugetlb.{size}.current"))
        reply.hugetlb[size].failures = parse_flat(read(f"hugetlb.{size}.events")).get("max", 0)
    for psi, name in ((reply.cpu_psi, "cpu"), (reply.memory_psi, "memory"), (reply.io_psi, "io")):
        parse_pressure(read(f"{name}.pressure"), psi)
    return reply


def _cpu(reply: pb.StatsReply, cpu: dict[str, int]) -> None:
    reply.cpu_usage = cpu.get("usage_usec", 0)
    reply.cpu_user = cpu.get("user_usec", 0)
    reply.cpu_system = cpu.get("system_usec", 0)
    reply.cpu_periods = cpu.get("nr_periods", 0)
    reply.cpu_throttled_periods = cpu.get("nr_throttled", 0)
    reply.cpu_throttled = cpu.get("throttled_usec", 0)


def _memory(reply: pb.StatsReply, read: Read) -> None:
    reply.memory_usage = number(read("memory.current"))
    reply.memory_limit = limit(read("memory.max"))
    reply.memory_peak = number(read("memory.peak"))
    reply.memory_failures = parse_flat(read("memory.events")).get("max", 0)
    reply.swap_usage = number(read("memory.swap.current"))
    reply.swap_limit = limit(read("memory.swap.max"))


def number(text: str) -> int:
    """0 for "max" and for a file that is not there."""
    return int(text) if text.isdecimal() else 0


def limit(text: str) -> int:
    """A number, or UNLIMITED for "max" and for a file that is not there."""
    return int(text) if text.isdecimal() else UNLIMITED


def parse_io(text: str) -> list[pb.BlockIo]:
    """io.stat: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 ...`; a device without figures is left out."""
    found = []
    for line in text.splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        values = {key: int(value) for key, _, value in (pair.partition("=") for pair in pairs) if value.isdecimal()}
        if values and major.isdecimal() and minor.isdecimal():
            found.append(
                pb.BlockIo(
                    major=int(major),
                    minor=int(minor),
                    read_bytes=values.get("rbytes", 0),
                    write_bytes=values.get("wbytes", 0),
                    reads=values.get("rios", 0),
                    writes=values.get("wios", 0),
                )
            )
    return found


def parse_pressure(text: str, psi: pb.Psi) -> None:
    """Fills `psi` from the text of a *.pressure file."""
    for kind, avg10, avg60, avg300, total in _PRESSURE.findall(text):
        target = psi.some if kind == "some" else psi.full
        target.avg10, target.avg60, target.avg300 = float(avg10), float(avg60), float(avg300)
        target.total = int(total)


def page_size_name(directory: str) -> str:
    """ "hugepages-2048kB" as cgroup files spell it: "2MB"."""
    kib = int(directory.removeprefix("hugepages-").removesuffix("kB"))
    for unit, size in (("GB", 1 << 20), ("MB", 1 << 10)):
        if kib >= size:
            return f"{kib // size}{unit}"
    return f"{kib}KB"
