"""Processors that are plugged in, and those of them that wait to be started."""

from pathlib import Path

from katapy.agent.growth import processors, sleeping


def test_processors_that_wait(tmp_path: Path) -> None:
    for name in ("cpu0", "cpu1", "cpu2", "cpufreq", "hotplug"):
        (tmp_path / name).mkdir()
    (tmp_path / "online").write_text("0-1\n")
    (tmp_path / "cpu1/online").write_text("1\n")
    (tmp_path / "cpu2/online").write_text("0\n")
    found = processors(str(tmp_path))
    assert found == [f"{tmp_path}/cpu{n}" for n in range(3)]
    assert sleeping(found) == [f"{tmp_path}/cpu2/online"]  # the first one has no such file: it can't be stopped
