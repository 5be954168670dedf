"""For all tests: options, what each tier needs, and what is kept of a failure."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from framework import fixtures
from hypothesis import HealthCheck, settings

# Some tests run grpc in this process, later ones fork helpers from it. grpc's own fork handlers restart its poller in
# the child, whose descriptors are closed by then: it aborts. katapy itself forks before it imports grpc.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# How long an example takes tells how busy the machine is, not whether the code is right.
settings.register_profile("katapy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("katapy")


TESTS = Path(__file__).resolve().parent
TIERS_WITH_ROOT = ("host", "vm", "engines", "perf")
_SLOWEST = 15


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--runtime",
        default=str(fixtures.KATAPY),
        help="path of the runtime under test; runc tries the tests of the tier vm themselves",
    )


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "guest: looks into the virtual machine; skipped for a runtime without one",
        "slow: takes more than 20 seconds on two cores",
    ):
        config.addinivalue_line("markers", line)
    if config.option.durations is None:
        config.option.durations = _SLOWEST


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    on_host = Path(config.getoption("runtime")).name in fixtures.HOST_RUNTIMES
    for item in items:
        tier = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        if tier in TIERS_WITH_ROOT and not fixtures.is_root():
            item.add_marker(pytest.mark.skip(reason="needs root"))
        if tier in ("vm", "engines"):
            item.add_marker(getattr(pytest.mark, tier))
        if on_host and item.get_closest_marker("guest"):
            item.add_marker(pytest.mark.skip(reason="the runtime under test has no virtual machine"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed and report.when != "teardown":  # type: ignore[attr-defined]
        fixtures.collect_artefacts(item, report)  # type: ignore[arg-type]
    return report
