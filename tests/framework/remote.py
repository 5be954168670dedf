"""Tests that run in a test host: a pytest in there runs them, this one reports each of them as if it had run it.

Two plugins. `Sender` is the inner pytest's: a JSON line for every report. `Remote` is the outer one's: it starts a test
host when the first such test's turn comes, and takes it down after the last.
"""

import json
import os
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

import pytest

from framework import lanes

REPORTS_FD = "KATAPY_TEST_REPORTS_FD"
"""Environment variable: the descriptor that the inner pytest writes reports to."""
_BEGIN_S = 600.0
_TEST_S = 240.0
"""Of the whole run: its start, and what a test takes on the average at most."""
_INNER = 'exec 9>&2 2>&1; exec python -u -m pytest -p no:cacheprovider -q --timeout=1800 "$@"'
_TAIL = 8000


class Sender:
    """Writes every report to a descriptor."""

    def __init__(self, config: pytest.Config, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._config = config
        self._file = os.fdopen(fd, "w", buffering=1)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._file.write(json.dumps(data) + "\n")


class Remote:
    """`nodeids`: of the tests to be run in there, in order. `warm`: they start many machines: a template pays."""

    def __init__(self, config: pytest.Config, nodeids: list[str], warm: bool) -> None:
        self._config = config
        self._nodeids = nodeids
        self._warm = warm
        self._reports: dict[str, deque[pytest.TestReport]] = defaultdict(deque)
        self._stream: Iterator[None] | None = None
        self._failure = ""
        self._said = bytearray()
        self.ran = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if item.nodeid not in self._nodeids:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._of(item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if nextitem is None or nextitem.nodeid not in self._nodeids:
            self.close()
        return True

    def _of(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        """Reports of one test, as they come; one that says why if there is none."""
        found = self._reports[item.nodeid]
        self.ran += 1
        while True:
            while found:
                report = found.popleft()
                yield report
                if report.when == "teardown":
                    return
            if not self._advance():
                yield self._failed(item)
                return

    def _advance(self) -> bool:
        """Waits for more; whether there will be any."""
        if self._failure:
            return False
        if self._stream is None:
            self._stream = self._run()
        try:
            next(self._stream)
        except StopIteration:
            self._failure = f"it was not run in the test host:\n{self._said[-_TAIL:].decode(errors='replace')}"
        except Exception as e:  # of whatever kind: it is this test's result, and that of all that follow
            said = self._said[-_TAIL:].decode(errors="replace")
            self._failure = f"the test host: {type(e).__name__}: {e}\n{said}"
        return not self._failure

    def _run(self) -> Iterator[None]:
        from testhost.frames import ERR, OUT
        from testhost.host import TestHost

        environment = {REPORTS_FD: "9", "KATAPY_TESTHOST": "inside", "CI": os.environ.get("CI", "")}
        if not self._warm:
            environment["KATAPY_FACTORY"] = "off"
        lines = bytearray()
        with TestHost(os.environ.get("KATAPY_TESTHOST_SUITE", ""), warm=self._warm) as host:
            command = ["sh", "-c", _INNER, "sh", *self._nodeids]
            deadline_s = _BEGIN_S + _TEST_S * len(self._nodeids)
            for kind, content in host.stream(command, env=environment, deadline_s=deadline_s):
                if kind == OUT:
                    self._said += content
                elif kind == ERR:
                    lines += content
                    while b"\n" in lines:
                        line, _, lines = lines.partition(b"\n")
                        self._take(bytes(line))
                    yield

    def _take(self, line: bytes) -> None:
        try:
            data: dict[str, Any] = json.loads(line)
        except ValueError:
            self._said += line + b"\n"  # what was said before pytest began
            return
        report = self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
        self._reports[report.nodeid].append(report)

    def _failed(self, item: pytest.Item) -> pytest.TestReport:
        return pytest.TestReport(item.nodeid, item.location, {}, "failed", self._failure, "call")

    def close(self) -> None:
        """Takes the test host down. Idempotent."""
        if self._stream is not None:
            self._stream.close()  # type: ignore[attr-defined]
            self._stream = None
            self._failure = self._failure or "the test host has been taken down"

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self.close()
        if self.ran:
            lanes.report(self._config, f"{self.ran} tests ran in a test host (tests/testhost), not on this machine")


def install_sender(config: pytest.Config) -> None:
    """In the inner pytest."""
    if fd := os.environ.pop(REPORTS_FD, ""):
        config.pluginmanager.register(Sender(config, int(fd)), "katapy-sender")


def is_inside() -> bool:
    """Whether this process runs in a test host."""
    return os.environ.get("KATAPY_TESTHOST") == "inside"
