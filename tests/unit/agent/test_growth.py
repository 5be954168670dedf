"""Processors and memory that are plugged in: what waits to be started, and what has come already."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from katapy.agent import growth, modules
from katapy.agent.growth import Growth, processors, sleeping
from katapy.agent.reaper import Reaper
from katapy.errors import Timeout


def test_processors_that_wait(tmp_path: Path) -> None:
    for name in ("cpu0", "cpu1", "cpu2", "cpufreq", "hotplug"):
        (tmp_path / name).mkdir()
    (tmp_path / "online").write_text("0-1\n")
    (tmp_path / "cpu1/online").write_text("1\n")
    (tmp_path / "cpu2/online").write_text("0\n")
    found = processors(str(tmp_path))
    assert found == [f"{tmp_path}/cpu{n}" for n in range(3)]
    assert sleeping(found) == [f"{tmp_path}/cpu2/online"]  # the first one has no such file: it can't be stopped


def test_memory_counts_that_came_before_anybody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a clone the kernel has its driver."""
    monkeypatch.setattr(modules, "loaded", lambda: frozenset({"virtio_mem"}))
    monkeypatch.setattr(growth, "processors", lambda: ["cpu0"])
    monkeypatch.setattr(growth, "sleeping", lambda folders: [])
    monkeypatch.setattr(growth, "DEADLINE_S", 0.0)
    monkeypatch.setattr(growth, "memory_bytes", lambda: 500)
    machine = Growth(cast(Reaper, None))
    monkeypatch.setattr(growth, "memory_bytes", lambda: 700)
    asyncio.run(machine.wait(1, 200))
    with pytest.raises(Timeout):
        asyncio.run(machine.wait(1, 300))
