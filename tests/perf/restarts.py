"""A container that is restarted many times in a running pod: what the pod holds more of then. Used by bench.py."""

from pathlib import Path

from framework import holdings
from framework.bundle import at_the_guests, make_bundle
from framework.pod import Pod
from framework.runtime import BOOT_S, Runtime
from perf.report import Report

WARM_UP = 10


def measure_restarts(report: Report, runtime: Runtime, folder: Path, count: int) -> None:
    """How much has grown, in KiB; those that fill caches come before. AssertionError if anything countable is left."""
    bundles = iter(range(1000))
    pod = Pod(
        runtime,
        lambda *args, **changes: make_bundle(folder / f"restarts{next(bundles)}", args, **changes),
        edit=at_the_guests,
    )
    restart = pod.crash_loop()
    for _ in range(WARM_UP):
        restart()
    before = holdings.take(pod)
    for _ in range(count):
        restart()
    after = holdings.await_no_more(pod, before, BOOT_S)
    for name, kib in after.sizes.items():
        report.series(runtime.name, f"growth in {count} restarts: {name}", "KiB").add(kib - before.sizes[name])
    pod.sandbox.delete("--force")
