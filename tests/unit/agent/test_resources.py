"""linux.resources as cgroup writes."""

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from katapy.agent.resources import cpu_weight, plan_writes
from katapy.errors import SpecError

CASES: list[tuple[dict[str, Any], dict[str, str], list[tuple[str, str]]]] = [
    ({}, {}, []),
    ({"memory": {"limit": 1000, "reservation": 500}}, {}, [("memory.max", "1000"), ("memory.low", "500")]),
    ({"memory": {"limit": -1}}, {}, [("memory.swap.max", "max"), ("memory.max", "max")]),
    ({"memory": {"limit": 1000, "swap": 1500}}, {}, [("memory.swap.max", "500"), ("memory.max", "1000")]),
    ({"memory": {"swap": 1500}}, {"memory.max": "1000"}, [("memory.swap.max", "500")]),
    ({"memory": {"swap": -1}}, {"memory.max": "1000"}, [("memory.swap.max", "max")]),
    ({"cpu": {"shares": 1024}}, {}, [("cpu.weight", "39")]),
    ({"cpu": {"shares": 1024, "idle": 1}}, {}, [("cpu.idle", "1")]),
    ({"cpu": {"idle": 0, "shares": 2}}, {}, [("cpu.idle", "0"), ("cpu.weight", "1")]),
    ({"cpu": {"quota": 5000}}, {"cpu.max": "max 20000"}, [("cpu.max", "5000 20000")]),
    ({"cpu": {"period": 50000}}, {"cpu.max": "7000 20000"}, [("cpu.max", "7000 50000")]),
    ({"cpu": {"quota": -1}}, {}, [("cpu.max", "max 100000")]),
    ({"cpu": {"quota": 9, "burst": 5}}, {"cpu.max.burst": "0"}, [("cpu.max", "9 100000"), ("cpu.max.burst", "5")]),
    ({"cpu": {"quota": 9, "burst": 5}}, {"cpu.max.burst": "8"}, [("cpu.max.burst", "5"), ("cpu.max", "9 100000")]),
    ({"cpu": {"cpus": "0-1", "mems": "0"}}, {}, [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")]),
    ({"pids": {"limit": 0}}, {}, [("pids.max", "max")]),
    ({"pids": {"limit": 7}}, {}, [("pids.max", "7")]),
    ({"blockIO": {"weight": 10}}, {}, [("io.weight", "default 1")]),
    ({"blockIO": {"weight": 1000}}, {}, [("io.weight", "default 10000")]),
    ({"blockIO": {"weight": 300}}, {"io.bfq.weight": "default 100"}, [("io.bfq.weight", "300")]),
    (
        {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]}},
        {},
        [("io.max", "8:0 rbps=5")],
    ),
    (
        {"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "minor": 1, "rate": 0}]}},
        {},
        [("io.max", "8:1 wiops=max")],
    ),
    ({"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]}, {}, [("hugetlb.2MB.max", "4096")]),
    ({"unified": {"memory.high": "7"}}, {}, [("memory.high", "7")]),
]


@pytest.mark.parametrize("resources,files,writes", CASES)
def test_writes(resources: dict[str, Any], files: dict[str, str], writes: list[tuple[str, str]]) -> None:
    assert plan_writes(resources, lambda name: files.get(name, "")) == writes


@pytest.mark.parametrize(
    "resources,path",
    [
        ({"memory": {"limit": "1"}}, "memory.limit"),
        ({"memory": {"limit": True}}, "memory.limit"),
        ({"memory": [1]}, "memory"),
        ({"memory": {"swap": 5}}, "memory.swap"),
        ({"memory": {"limit": 10, "swap": 5}}, "memory.swap"),
        ({"memory": {"limit": 10, "checkBeforeUpdate": True}}, "rejecting memory limit 10 <= usage 11 - at `$.memory"),
        ({"memory": {"swap": 9, "checkBeforeUpdate": True}}, r"limit 9 <= usage 11 - at `$.memory"),
        ({"blockIO": {"throttleReadBpsDevice": [{"rate": 5}]}}, "blockIO"),
        ({"blockIO": {"weightDevice": [5]}}, "weightDevice"),
        ({"hugepageLimits": {"a": 1}}, "hugepageLimits"),
        ({"rdma": {"mlx": 5}}, "mlx"),
        ({"hugepageLimits": [{"pageSize": "../2MB", "limit": 4096}]}, "hugepageLimits"),
        ({"unified": {"../x": "1"}}, "unified"),
        ({"unified": {"cgroup.procs": "1"}}, "unified"),
        ({"unified": {"cgroup.kill": "1"}}, "unified"),
        ({"unified": {"memory.high": 1}}, "unified"),
    ],
)
def test_what_is_malformed_is_named(resources: dict[str, Any], path: str) -> None:
    files = {"memory.current": "11"}
    with pytest.raises(SpecError, match=re.escape(path)):
        plan_writes(resources, lambda name: files.get(name, ""))


@given(st.integers(0, 2**63))
def test_weights_stay_in_range(shares: int) -> None:
    assert 1 <= cpu_weight(shares) <= 10000


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
KEYS = [
    "memory",
    "limit",
    "swap",
    "cpu",
    "quota",
    "burst",
    "blockIO",
    "weightDevice",
    "major",
    "rdma",
    "unified",
    "pids",
]
TREES = st.recursive(
    LEAVES, lambda part: st.lists(part, max_size=2) | st.dictionaries(st.sampled_from(KEYS), part), max_leaves=6
)


@given(st.dictionaries(st.sampled_from(KEYS), TREES))
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
def test_any_document_gives_writes_or_a_spec_error(resources: dict[str, Any]) -> None:
    try:
        writes = plan_writes(resources, lambda name: "")
    except SpecError:
        return
    assert not any("/" in name for name, _ in writes)
