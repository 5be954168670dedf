"""How big a machine has to be for its containers."""

from typing import Any

import pytest

from katapy.hypervisor.vm import Size
from katapy.sandbox.demand import Demand, demand_of, grown_size, larger, updated, wanted_size

MIB = 1024 * 1024
BOOT, MOST, RESERVE = Size(1, 512), Size(4, 4096), 256


def memory(mib: int) -> Demand:
    return demand_of({"memory": {"limit": mib * MIB}})


@pytest.mark.parametrize(
    "demands, expected",
    [
        ([], (1, 512)),
        ([Demand()], (1, 512)),
        ([memory(100), memory(100)], (1, 512)),
        ([memory(300), memory(300)], (1, 512 + 384)),
        ([memory(1024)], (1, 512 + 768)),
        ([memory(100_000)], (1, 4096)),
        ([Demand(cpus=0.5), Demand(cpus=0.6)], (2, 512)),
        ([Demand(cpus=9.0)], (4, 512)),
        ([Demand(cpuset=3), Demand(cpus=1.0)], (3, 512)),
        ([Demand(least_vcpus=2, least_memory_mib=600)], (2, 512 + 128)),
    ],
)
def test_limits_add_up_to_a_size_in_steps(demands: list[Demand], expected: tuple[int, int]) -> None:
    assert grown_size(BOOT, MOST, wanted_size(BOOT, RESERVE, demands)) == Size(*expected)


def test_what_is_wanted_has_no_upper_bound() -> None:
    assert wanted_size(BOOT, RESERVE, [memory(100_000), Demand(cpus=9.0)]) == Size(9, 100_256)


@pytest.mark.parametrize(
    "resources, changed",
    [
        ({}, Demand(2.0, 3, 64)),
        ({"memory": {"limit": 128 * MIB}}, Demand(2.0, 3, 128)),
        ({"memory": {"limit": -1}}, Demand(2.0, 3, 0)),
        ({"memory": {"swap": 5}}, Demand(2.0, 3, 64)),
        ({"cpu": {"quota": 50_000}}, Demand(0.5, 3, 64)),
        ({"cpu": {"quota": -1, "cpus": "0"}}, Demand(0.0, 1, 64)),
    ],
)
def test_an_update_changes_what_it_names(resources: dict[str, Any], changed: Demand) -> None:
    assert updated(Demand(2.0, 3, 64), resources) == changed


def test_the_larger_of_two() -> None:
    assert larger(Demand(1.0, 4, 10), Demand(2.0, 0, 5)) == Demand(2.0, 4, 10)
