"""A zygote under test: `katapy factory serve` that listens. Runs in pytest."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from framework.runtime import BOOT_S, Runtime
from framework.wait import wait_for

END_S = 20.0


class Zygote:
    """The process and what it says. `configuration`: its file, which `create` reads as well unless told otherwise."""

    def __init__(self, runtime: Runtime, configuration: Path) -> None:
        self._runtime = runtime
        self._configuration = configuration
        self._log = configuration.with_name("zygote.log")
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            argv: list[str | Path] = ["--configuration", self._configuration, "factory", "serve"]
            self.process = self._runtime.popen(*argv, stdout=log, stderr=log)
        wait_for("the zygote listens", self._listens)

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.said()
        return bool(self.status()["running"])

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        return self._log.read_text()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._runtime("factory", "status", "-f", "json").ok().out)["zygote"]
        return found

    def warm(self) -> list[dict[str, Any]]:
        """Its machines that are ready."""
        return [machine for machine in self.status()["pool"]["machines"] if machine["ready"]]

    def await_warm(self, count: int = 1) -> list[dict[str, Any]]:
        wait_for(f"{count} warm machines", lambda: len(self.warm()) == count or None, BOOT_S)
        return self.warm()

    def send(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def end(self, signum: int = signal.SIGTERM) -> int:
        """Its exit status."""
        if self.process.poll() is None:
            self.send(signal.SIGCONT)
            self.send(signum)
        try:
            return self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(END_S)
            raise AssertionError(f"the zygote does not end: {self.said()}") from None
