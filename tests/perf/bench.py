"""`make bench`: what the design promises, measured here and now, beside runc on the same bundle in the same run.

    python tests/perf/bench.py [--runs N] [--row N] [--restarts N] [--only PART] [--json FILE] [--output FOLDER]
                               [--katapy PATH]

Prints medians and spreads (min, p90) and the budgets of the design; writes everything as JSON, a table in Markdown and
two plots (phases of a start, memory of a pod) to build/bench. It asserts nothing:
figures of a busy machine are no test. Needs root; runc is left out, and named, where it is not installed.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from framework import processes
from framework.bundle import Bundle, make_bundle
from framework.runtime import Runtime
from perf import measure, starts
from perf.network import measure_network
from perf.report import Report, Series
from perf.restarts import measure_restarts

OUTPUT_MIB = 64
PARTS = ("verbs", "starts", "many", "row", "memory", "files", "restarts")
LAUNCHER = Path(sys.executable).with_name("katapy")


def main() -> int:
    options = _options()
    processes.become_subreaper()  # the stand-ins' parent, as conmon is
    host = _host(options.katapy)
    report = Report(host, _machines(host))
    with tempfile.TemporaryDirectory(prefix="katapy-bench-") as name:
        folder = Path(name)
        katapy = Runtime(options.katapy, folder / "katapy", f"bench{os.getpid()}")
        runc = Runtime(Path(found), folder / "runc", f"bench{os.getpid()}") if (found := shutil.which("runc")) else None
        if runc is None:
            print("runc is not installed: katapy is measured alone", file=sys.stderr)
        try:
            if options.only in ("", "verbs"):
                _measure_all(report, katapy, runc, folder, options.runs)
            if options.only in ("", "restarts"):
                _say(f"katapy: {options.restarts} restarts in a pod")
                measure_restarts(report, katapy, folder, options.restarts)
            if options.only not in ("verbs", "restarts"):
                _starts(report, katapy, folder, options)
        finally:
            for runtime in filter(None, (katapy, runc)):
                runtime.cleanup()
    print(report.table())
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in {"table.md": report.markdown(), **starts.charts(report)}.items():
        (folder / file).write_text(content)
    print(f"\n{folder}: table.md, phases.svg, memory.svg", file=sys.stderr)
    if options.json:
        Path(options.json).write_text(json.dumps(report.document(), indent=2) + "\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", type=int, default=5, help="cold boots (default: 5); short verbs run five times as often"
    )
    parser.add_argument("--row", type=int, default=100, help="starts in a row (default: 100)")
    parser.add_argument("--restarts", type=int, default=20, help="of a container in a running pod (default: 20)")
    parser.add_argument("--only", choices=["", *PARTS], default="", help="one part instead of all")
    parser.add_argument("--output", default="build/bench", help="folder of table and plots (default: build/bench)")
    parser.add_argument("--json", metavar="FILE", default="", help="write all figures to this file")
    parser.add_argument("--katapy", type=Path, default=LAUNCHER, help="the katapy to measure (default: the checkout's)")
    return parser.parse_args()


def _host(katapy: Path) -> dict[str, Any]:
    """What the figures depend on."""
    version = measure.output([str(katapy), "env", "--json"])
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "load at the start": os.getloadavg()[0],
        "katapy": json.loads(version),
    }


def _machines(host: dict[str, Any]) -> str:
    """What runs the machines, in a line."""
    machine = host["katapy"]["machine"]
    if "error" in machine:
        raise SystemExit(f"nothing can be measured on this host: {machine['error']}")
    how = f"{machine['accelerator']}, the agent over {machine['transport']}, files over {machine['share']}"
    return f"machines: {how}, QEMU {machine['qemu_version']}; {host['cpus']} CPUs, Linux {host['kernel']}"


def _measure_all(report: Report, katapy: Runtime, runc: Runtime | None, folder: Path, runs: int) -> None:
    idle = make_bundle(folder / "idle")
    for runtime in filter(None, (katapy, runc)):
        _running(report, runtime, idle, runs)
    for runtime in filter(None, (katapy, runc)):
        _say(f"{runtime.name}: network")
        measure_network(report, runtime, runtime.name, folder / f"network-{runtime.name}", min(runs, 3))
    _output(report, katapy, runc, make_bundle(folder / "output", measure.output_command(OUTPUT_MIB)), min(runs, 3))
    bare = report.series("bare python", "-I -S -c pass", "ms")
    for _ in range(runs * 5):
        bare.add(measure.milliseconds([sys.executable, "-I", "-S", "-c", "pass"]))


def _say(what: str) -> None:
    print(f"  {what} ...", file=sys.stderr, flush=True)


def _starts(report: Report, katapy: Runtime, folder: Path, options: argparse.Namespace) -> None:
    """What a start takes, beside the host's runtimes; a template is made before, and not counted."""
    hello, idle = make_bundle(folder / "hello", ["echo", "hello"]), make_bundle(folder / "sleeper")
    compared = {"cold": katapy, "template": katapy, "warm": katapy, **starts.hosts(folder)}
    _say("template")
    katapy.run(hello).ok()
    wanted = {options.only} if options.only else set(PARTS)
    for name, runtime in compared.items():
        if "starts" in wanted:
            _say(f"{name}: single starts")
            starts.one_by_one(report, name, runtime, hello, options.runs)
        if name == "warm":  # one machine is kept: what follows is of many
            continue
        if "many" in wanted and name != "cold":
            for count in (1, 10, 20):
                _say(f"{name}: {count} at once")
                starts.at_once(report, name, runtime, hello, count)
        if "row" in wanted and name != "cold":
            _say(f"{name}: {options.row} in a row")
            starts.in_a_row(report, name, runtime, hello, options.row)
        if "memory" in wanted and runtime is katapy:
            _say(f"{name}: memory of live pods")
            starts.live(report, name, runtime, idle, [1] if name == "cold" else [1, 10, 20])
        if "files" in wanted and name != "cold":
            _say(f"{name}: files")
            starts.file_io(report, name, runtime, idle, min(options.runs, 3))


def _running(report: Report, runtime: Runtime, bundle: Bundle, runs: int) -> None:
    """Short verbs on a container that runs, its memory, and its end."""
    name = "runc" if runtime.name == "runc" else "katapy"
    _say(f"{name}: verbs on a running container")
    if name == "katapy":
        runtime.start(bundle).delete("--force")  # makes the template, and asks programs for their versions
        for _ in range(runs):
            container, cpu = measure.create_cpu(runtime, bundle)
            report.series(name, "CPU of create besides QEMU", "s").add(cpu)
            container.delete("--force")
    container = runtime.start(bundle)

    def repeat(what: str, verb: Callable[[], float]) -> Series:
        series = report.series(name, what, "ms")
        for _ in range(runs * 5):
            series.add(verb())
        return series

    repeat("state", lambda: measure.milliseconds(runtime.argv("state", container.id)))
    repeat("list", lambda: measure.milliseconds(runtime.argv("list")))
    execs = repeat("exec true", lambda: measure.milliseconds(runtime.argv("exec", container.id, "true")))
    if name == "katapy":
        for _ in execs.values:
            for what, milliseconds in measure.exec_steps(container).items():
                report.series(name, what, "ms").add(milliseconds)
        for what, kib in measure.memory(container).items():
            report.series(name, f"PSS of {what}", "MB").add(kib / 1024)
    report.series(name, "delete --force", "ms").add(
        measure.milliseconds(runtime.argv("delete", "--force", container.id))
    )


def _output(report: Report, katapy: Runtime, runc: Runtime | None, bundle: Bundle, runs: int) -> None:
    for runtime in filter(None, (katapy, runc)):
        name = "runc" if runtime is runc else "katapy"
        for n in range(runs):
            _say(f"{name}: {OUTPUT_MIB} MiB of output, {n + 1} of {runs}")
            report.series(name, "stdout", "MB/s").add(measure.output_rate(runtime, bundle, OUTPUT_MIB))


if __name__ == "__main__":
    raise SystemExit(main())
