"""`make test` in lanes: pytest-xdist's workers, which share the files of tests out among themselves.

The first lane is the host itself. Each other one (lane.sh) has namespaces of its own for the network and for mounts,
an empty `/run/netns` and templates of its own, so that no lane meets another's interfaces, addresses, named namespaces
and half-made templates. All else carries a token of its lane already (framework/leaks.py). What is said here runs in
the pytest that shares out; `report` in all.
"""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from katapy.linux import proc

_MOST = 4
_MIB_EACH = 5120
"""Memory of a lane: a test host, or a dozen pods."""
_LANE = Path(__file__).with_name("lane.sh")
_TEST_HOST = ("tests/kvm/", "tests/host/test_testhost")
_ORDER = (*_TEST_HOST, "tests/vm/", "tests/engines/", "tests/security/", "tests/contract/", "tests/host/")
"""Long ones first: at the end the lanes wait for one another."""
_LINES = pytest.StashKey[list[str]]()


def report(config: pytest.Config, line: str) -> None:
    """A line for the end of the output, from whichever lane; of equal ones there is one."""
    lines: list[str] = config.stash.setdefault(_LINES, [])
    if line not in lines:
        lines.append(line)


def _rank(nodeid: str) -> int:
    return next((n for n, start in enumerate(_ORDER) if nodeid.startswith(start)), len(_ORDER))


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """In the order of the collection; the first lane begins with what needs the host's network."""

    @property
    def nodes(self) -> list[WorkerController]:
        return sorted(self.assigned_work, key=lambda node: str(node.gateway.id))

    def _split_scope(self, nodeid: str) -> str:
        """What is run in one piece: a file, and all that needs a test host."""
        return "a test host" if nodeid.startswith(_TEST_HOST) else nodeid.split("::", 1)[0]


def pytest_xdist_auto_num_workers() -> int:
    """As many as this machine has processors and memory for; 0 is pytest without xdist."""
    if os.geteuid() != 0:
        return 0
    free_mib = proc.memory_kib("MemAvailable") // 1024
    lanes = min(_MOST, len(os.sched_getaffinity(0)), free_mib // _MIB_EACH)
    return lanes if lanes > 1 else 0


def pytest_xdist_setupnodes(specs: list[Any]) -> None:
    for spec in specs[1:]:
        spec.python = f"sh {_LANE} {sys.executable}"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scheduling:
    config.option.loadscopereorder = False
    return _Scheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _rank(item.nodeid))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["lines"] = session.config.stash.get(_LINES, [])


def pytest_testnodedown(node: WorkerController) -> None:
    for line in getattr(node, "workeroutput", {}).get("lines", []):
        report(node.config, line)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for line in config.stash.get(_LINES, []):
        terminalreporter.write_line(line)
