"""configs/systemd: the zygote as a service, started and kept alive by systemd. No machine."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from framework.fixtures import CHECKOUT
from framework.leaks import Scope
from framework.podman import INSTALLED, launcher
from framework.runtime import BOOT_S, Runtime
from framework.wait import wait_for

pytestmark = pytest.mark.long

SHIPPED = CHECKOUT / "configs/systemd/katapy-factory.service"
UNITS = Path("/run/systemd/system")


def systemctl(*arguments: str) -> str:
    return subprocess.run(["systemctl", *arguments], check=True, capture_output=True, text=True, timeout=BOOT_S).stdout


@dataclass(frozen=True)
class Unit:
    """The shipped one, with a program of the tests' own in the place of the installed one."""

    name: str
    file: Path
    runtime: Runtime
    settings: Path

    def zygote(self) -> dict[str, Any]:
        done = self.runtime("--configuration", self.settings, "factory", "status", "-f", "json").ok()
        found: dict[str, Any] = json.loads(done.out)["zygote"]
        return found

    def serves(self) -> int:
        """Its pid, 0 if it does not."""
        found = self.zygote()
        return int(found["pid"]) if found["running"] else 0


@pytest.fixture
def unit(runtime: Runtime, scope: Scope, tmp_path: Path) -> Iterator[Unit]:
    settings = tmp_path / "katapy.yaml"
    settings.write_text(f"factory: {{dir: {tmp_path}/templates}}\n")
    program = launcher(tmp_path / "katapy", runtime)
    text = SHIPPED.read_text().replace(INSTALLED, f"{program} --configuration {settings}")
    unit = Unit(f"{scope.token}-factory.service", UNITS / f"{scope.token}-factory.service", runtime, settings)
    unit.file.write_text(text)
    try:
        systemctl("daemon-reload")
        yield unit
        systemctl("stop", unit.name)
    finally:
        unit.file.unlink()
        systemctl("daemon-reload")


def test_systemd_starts_it_keeps_it_alive_and_stops_it(unit: Unit) -> None:
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(unit.file)], capture_output=True, text=True, check=False, timeout=BOOT_S
    )
    assert [line for line in verified.stderr.splitlines() if unit.name in line] == [], verified.stderr
    systemctl("start", unit.name)
    wait_for("the zygote serves", unit.serves, BOOT_S)
    first = unit.serves()
    assert systemctl("show", "-P", "MainPID", unit.name).strip() == str(first)
    os.kill(first, signal.SIGKILL)
    wait_for("another one serves", lambda: unit.serves() not in (0, first), BOOT_S)
    systemctl("stop", unit.name)
    assert unit.serves() == 0
