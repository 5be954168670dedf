"""Figures and texts of a lying agent, as they come out of `stats`, `events` and `ps`: JSON that engines can read."""

import asyncio
from collections.abc import Iterator

import pytest
from framework.besieged import besieged

from katapy.cli import ps_layout

pytestmark = pytest.mark.usefixtures("nothing_left")


def answers(op: str) -> dict[str, object]:
    async def scenario() -> dict[str, object]:
        async with besieged("AbsurdStatistics") as host:
            await host.create()
            return await host.ask(op)

    return asyncio.run(scenario())


def leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


@pytest.mark.parametrize("op", ["stats", "ps"])
def test_numbers_fit_64_bits_and_texts_one_line(op: str) -> None:
    found = list(leaves(answers(op)))
    assert len(found) < 10_000
    for value in found:
        if isinstance(value, str):
            assert value.isprintable()
            assert len(value) <= 5000
        elif isinstance(value, int):
            assert -(2**63) <= value < 2**64


def test_host_pids_are_never_the_guests_word() -> None:
    assert answers("ps")["pids"] == [4711]


def test_the_table_of_ps_shows_any_process() -> None:
    processes = answers("ps")["processes"]
    assert isinstance(processes, list)
    every = ps_layout.layout(["-o", ",".join(ps_layout.NAMES)])
    for row in ps_layout.rows(every, processes, 0.0):
        assert all(len(cell) < 5000 for cell in row)
