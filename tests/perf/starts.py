"""Starts of every kind, many at once, many in a row, and what live pods hold. Used by bench.py.

A kind is a runtime with an environment: katapy that boots ("cold"), that clones ("template"), that has a zygote which
keeps a machine running for each start ("warm"), runc, crun.
"""

import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from framework import processes
from framework.bundle import Bundle, make_bundle
from framework.runtime import BOOT_S, Container, Runtime
from framework.settings import write_settings
from framework.zygote import Zygote
from perf import measure
from perf.chart import stacked_bars
from perf.report import Report

FIRST_ANSWER = "agent ready"
"""The milestone of `run --timings` that ends the start of the machine."""
SMALL_FILES = 300
WRITE = f"i=0; while [ $i -lt {SMALL_FILES} ]; do echo $i >/tmp/f$i; i=$((i+1)); done; rm -f /tmp/f*"
READ = "cat /bin/busybox >/dev/null; dd if=/dev/zero of=/tmp/big bs=64k count=1024 2>/dev/null; rm /tmp/big"


@contextlib.contextmanager
def kind(name: str) -> Iterator[None]:
    """katapy boots, or clones, for the length of the block."""
    with _environment({"KATAPY_FACTORY": "off" if name == "cold" else None}):
        yield


@contextlib.contextmanager
def warmth(name: str, runtime: Runtime, folder: Path) -> Iterator[Callable[[], object]]:
    """The same for single starts. Yields what waits until the next start can be of that kind."""
    if name != "warm":
        with kind(name):
            yield lambda: None
        return
    configuration = write_settings(folder / "warm.yaml", factory={"pool": 1})
    with _environment({"KATAPY_FACTORY": None, "KATAPY_CONFIG": str(configuration)}):
        zygote = Zygote(runtime, configuration)
        try:
            yield zygote.await_warm
        finally:
            zygote.end()


@contextlib.contextmanager
def _environment(wanted: dict[str, str | None]) -> Iterator[None]:
    """None: not set."""
    before = {name: os.environ.pop(name, None) for name in wanted}
    os.environ.update({name: value for name, value in wanted.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def hosts(folder: Path) -> dict[str, Runtime]:
    """The runtimes to compare with, as far as they are installed and work here."""
    found = {}
    for name in ("runc", "crun"):
        if path := shutil.which(name):
            runtime = Runtime(Path(path), folder / name, f"bench{os.getpid()}")
            if runtime.run(make_bundle(folder / f"try-{name}", ["true"])).status == 0:
                found[name] = runtime
    return found


def one_by_one(report: Report, name: str, runtime: Runtime, bundle: Bundle, runs: int) -> None:
    """Single starts: whole, to the first byte, to the agent's first answer, phase by phase, and CPU of everything.

    What a warm machine has used before its start, and what the next one uses meanwhile, is in that CPU too.
    """
    with warmth(name, runtime, bundle.path) as await_turn:
        for _ in range(runs):
            await_turn()
            cpu = _cpu_of_children()
            start = measure.first_byte(runtime, bundle)
            report.series(name, "run to first byte", "s").add(start.first_byte)
            report.series(name, "run to exit", "s").add(start.exit)
            report.series(name, "CPU of a run, with QEMU", "s").add(_cpu_of_children() - cpu)
            if start.phases:
                host = {phase: s for phase, s in start.phases.items() if not phase.startswith("guest: ")}
                reached = list(host)[: list(host).index(FIRST_ANSWER) + 1]
                report.series(name, "first answer", "s").add(sum(host[phase] for phase in reached))
                for phase, seconds in host.items():
                    report.series(name, f"  phase: {phase}", "s").add(seconds)


def _cpu_of_children() -> float:
    """Of all that has ended: this process is a subreaper, and reaps here what `run` left."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def at_once(report: Report, name: str, runtime: Runtime, bundle: Bundle, count: int) -> None:
    """Seconds from the first call to the last end of `count` runs that begin together."""
    with kind(name):
        begun = time.monotonic()
        calls = [
            runtime.popen("run", "--bundle", bundle.path, runtime.new_id(), stdout=subprocess.DEVNULL)
            for _ in range(count)
        ]
        statuses = [call.wait(BOOT_S * 4) for call in calls]
        seconds = time.monotonic() - begun
    if any(statuses):
        raise RuntimeError(f"{count} at once: {statuses}")
    report.series(name, f"{count} at once", "s").add(seconds)


def in_a_row(report: Report, name: str, runtime: Runtime, bundle: Bundle, count: int) -> None:
    """Whether the last are slower than the first: medians of the first and the last fifth."""
    with kind(name):
        for _ in range(count):
            report.series(name, f"{count} in a row", "s").add(measure.first_byte(runtime, bundle).exit)
    values = report.series(name, f"{count} in a row", "s").values
    fifth = max(1, count // 5)
    first, last = statistics.median(values[:fifth]), statistics.median(values[-fifth:])
    report.series(name, "drift of the last fifth", "%").add((last / first - 1) * 100)


def live(report: Report, name: str, runtime: Runtime, bundle: Bundle, counts: list[int]) -> None:
    """PSS of a pod, by process, with so many pods alive."""
    pods: list[Container] = []
    with kind(name):
        for count in counts:
            while len(pods) < count:
                pods.append(runtime.start(bundle))
            total = 0.0
            for part, kib in _sum([measure.memory(pod) for pod in pods]).items():
                report.series(name, f"PSS per pod of {count}: {part}", "MB").add(kib / 1024 / count)
                total += kib / 1024 / count
            report.series(name, f"PSS per pod of {count}", "MB").add(total)
        if len(counts) > 1:
            few, many = counts[0], counts[-1]
            sums = [report.series(name, f"PSS per pod of {n}", "MB").median * n for n in (few, many)]
            report.series(name, "PSS of one more pod", "MB").add((sums[1] - sums[0]) / (many - few))
        for pod in pods:
            pod.delete("--force")
            processes.exit_status(pod.pid, BOOT_S)


def _sum(found: list[dict[str, int]]) -> dict[str, int]:
    return {part: sum(pod.get(part, 0) for pod in found) for part in dict.fromkeys(p for pod in found for p in pod)}


def file_io(report: Report, name: str, runtime: Runtime, bundle: Bundle, runs: int) -> None:
    """In a container that runs, on its root file system; an exec's own time is in it."""
    with kind(name):
        container = runtime.start(bundle)
        for what, script in ((f"exec: {SMALL_FILES} small files", WRITE), ("exec: 64 MiB written", READ)):
            for _ in range(runs):
                container.sh("true")
                report.series(name, what, "s").add(container.exec("sh", "-c", script, timeout=BOOT_S).ok().seconds)
        container.delete("--force")
        processes.exit_status(container.pid, BOOT_S)


def charts(report: Report) -> dict[str, str]:
    """File name -> SVG."""
    starts = []
    for name in ("cold", "template", "warm"):
        phases = [
            (s.what.removeprefix("  phase: "), s.median) for s in report.of(name) if s.what.startswith("  phase: ")
        ]
        if phases:
            whole = report.series(name, "run to exit", "s").median
            rest = max(0.0, whole - sum(seconds for _, seconds in phases))
            starts.append((name, [*phases, ("start, end, delete", rest)]))
    pods = []
    for name in ("cold", "template"):
        for count in (1, 10, 20):
            prefix = f"PSS per pod of {count}: "
            parts = [(s.what.removeprefix(prefix), s.median) for s in report.of(name) if s.what.startswith(prefix)]
            if parts:
                pods.append((f"{name}, {count} alive", parts))
    return {
        "phases.svg": stacked_bars("Phases of `katapy run true` (medians)", "s", starts),
        "memory.svg": stacked_bars("Memory of one pod (PSS)", "MB", pods),
    }
