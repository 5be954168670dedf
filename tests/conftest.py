"""For all tests: options, what each tier needs, and what is kept of a failure."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from framework import capabilities, fixtures, lanes, remote
from hypothesis import HealthCheck, settings

# Some tests run grpc in this process, later ones fork helpers from it. grpc's own fork handlers restart its poller in
# the child, whose descriptors are closed by then: it aborts. katapy itself forks before it imports grpc.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# How long an example takes tells how busy the machine is, not whether the code is right.
settings.register_profile("katapy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("katapy")


TESTS = Path(__file__).resolve().parent
TIERS_WITH_ROOT = ("host", "vm", "engines", "kvm", "perf")
_IN_A_TEST_HOST_S = 3600
"""A test's limit where the first one makes the test host; in there every test has its own."""
_SLOWEST = 15


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.register(lanes, "katapy-lanes")
    parser.addoption(
        "--runtime",
        default=str(fixtures.KATAPY),
        help="path of the runtime under test; runc tries the tests of the tier vm themselves",
    )
    parser.addoption(
        "--testhost",
        action="store_true",
        help="run all that is selected with KVM, vsock, cgroup v2 and systemd: in a test host unless this is one",
    )


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "guest: looks into the virtual machine; skipped for a runtime without one",
        "long: takes minutes in a test host: not part of `make test` unless this host is one",
        "slow: takes more than 20 seconds on two cores",
    ):
        config.addinivalue_line("markers", line)
    if config.option.durations is None:
        config.option.durations = _SLOWEST
    remote.install_sender(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    on_host = Path(config.getoption("runtime")).name in fixtures.HOST_RUNTIMES
    named = config.getoption("testhost") or any("kvm" in argument for argument in config.args)
    elsewhere = not (named or remote.is_inside()) and bool(capabilities.missing())
    left_out = [item for item in items if elsewhere and item.get_closest_marker("long")]
    if left_out:
        lanes.report(config, f"{len(left_out)} tests of the tier kvm were left to `make test-kvm`")
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    for item in items:
        tier = _tier(item)
        if tier in TIERS_WITH_ROOT and not fixtures.is_root():
            item.add_marker(pytest.mark.skip(reason="needs root"))
        if tier in ("vm", "engines"):
            item.add_marker(getattr(pytest.mark, tier))
        if on_host and item.get_closest_marker("guest"):
            item.add_marker(pytest.mark.skip(reason="the runtime under test has no virtual machine"))


def _tier(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""


def pytest_collection_finish(session: pytest.Session) -> None:
    """The tier kvm, or with --testhost all but the tier host, runs here if this host has what that asks for, else in a
    test host."""
    config = session.config
    if remote.is_inside() or config.option.collectonly or not fixtures.is_root() or not capabilities.missing():
        return
    everything = config.getoption("testhost")
    asked = [item for item in session.items if _tier(item) == "kvm" or (everything and _tier(item) != "host")]
    chosen = [item for item in asked if not item.get_closest_marker("skip")]
    if chosen:
        for item in chosen:
            item.add_marker(pytest.mark.timeout(_IN_A_TEST_HOST_S))
        warm = everything or any(item.get_closest_marker("long") for item in chosen)
        config.pluginmanager.register(remote.Remote(config, [i.nodeid for i in chosen], warm), "katapy-remote")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed and report.when != "teardown":  # type: ignore[attr-defined]
        fixtures.collect_artefacts(item, report)  # type: ignore[arg-type]
    return report
