"""Stats from cgroup files, processes from /proc: pure parsing, and this very process."""

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katapy.agent import ps, stats
from katapy.agent.cgroup import parse_flat
from katapy.protocol import agent_pb2 as pb

FILES = {
    "cpu.stat": "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 3\nnr_throttled 2\nthrottled_usec 1",
    "memory.current": "4096",
    "memory.max": "max",
    "memory.peak": "8192",
    "memory.swap.max": "100",
    "memory.events": "low 0\nhigh 0\nmax 5\noom 1\noom_kill 1",
    "memory.stat": "anon 1\nfile 2",
    "pids.current": "4",
    "pids.max": "max",
    "io.stat": "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n7:0",
    "cpuset.cpus.effective": "0-1",
    "hugetlb.2MB.current": "6",
    "hugetlb.2MB.events": "max 7",
    "memory.pressure": (
        "some avg10=1.50 avg60=2.50 avg300=3.50 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.25 total=8"
    ),
}


def test_stats() -> None:
    reply = stats.collect(lambda name: FILES.get(name, ""), ["2MB"])
    assert (reply.cpu_usage, reply.cpu_user, reply.cpu_system, reply.cpu_throttled) == (30, 20, 10, 1)
    assert (reply.memory_usage, reply.memory_limit, reply.memory_peak) == (4096, 2**64 - 1, 8192)
    assert (reply.memory_failures, reply.swap_limit, dict(reply.memory_stat)) == (5, 100, {"anon": 1, "file": 2})
    assert (reply.pids_current, reply.pids_limit, reply.cpuset_cpus) == (4, 0, "0-1")
    assert list(reply.blkio) == [pb.BlockIo(major=254, minor=0, read_bytes=1, write_bytes=2, reads=3, writes=4)]
    assert (reply.hugetlb["2MB"].usage, reply.hugetlb["2MB"].failures) == (6, 7)
    assert (reply.memory_psi.some.avg10, reply.memory_psi.full.avg300, reply.memory_psi.some.total) == (1.5, 0.25, 9)


def test_stats_of_a_kernel_that_has_none() -> None:
    reply = stats.collect(lambda name: "", [])
    assert (reply.memory_limit, reply.memory_usage, len(reply.blkio)) == (2**64 - 1, 0, 0)


@pytest.mark.parametrize(
    "directory,name", [("hugepages-2048kB", "2MB"), ("hugepages-1048576kB", "1GB"), ("hugepages-64kB", "64KB")]
)
def test_page_sizes(directory: str, name: str) -> None:
    assert stats.page_size_name(directory) == name


@given(st.text())
def test_flat_files_never_fail(text: str) -> None:
    assert all(value >= 0 for value in parse_flat(text).values())


def test_a_name_may_hold_blanks_and_parentheses() -> None:
    name, fields = ps.parse_stat("12 (a) b (c)) S 1 2 3")
    assert (name, fields[:2]) == ("a) b (c)", ["S", "1"])


@pytest.mark.parametrize("number,name", [(0, "?"), (0x8803, "pts/3"), (0x401, "tty1"), (0xE500, "hvc0")])
def test_terminals(number: int, name: str) -> None:
    assert ps.tty_name(number) == name


def test_this_process_and_one_that_is_gone() -> None:
    (found,) = ps.list_processes([os.getpid(), 2**22 + 1])
    assert (found.pid, found.ppid, found.uid) == (os.getpid(), os.getppid(), os.geteuid())
    assert found.command == " ".join(sys.orig_argv)
    assert found.start_unix_seconds > 1_600_000_000
