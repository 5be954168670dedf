"""Public conformance suites against a runtime: what fails, and whether that was to be expected.

    python tests/conformance [--runtime PATH] [--work DIR] SUITE [PROGRAM ...]

Needs root, the guest image and what a suite is made from (README.md), which is why it is no part of `make test`. The
exit status is 1 if a point fails that expected.yaml does not name.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0:1] = [str(TESTS), str(TESTS.parent)]

import yaml  # noqa: E402
from conformance import crun_tests, runc_bats, runtime_tools, tap  # noqa: E402
from conformance.suite import Suite  # noqa: E402

SUITES = {
    "runtime-tools": runtime_tools.RUNTIME_TOOLS,
    "runc": runc_bats.RUNC,
    "runc-guest": runc_bats.RUNC_GUEST,
    "crun": crun_tests.CRUN,
}
LAUNCHER = Path(sys.executable).with_name("katapy")
EXPECTED = Path(__file__).resolve().with_name("expected.yaml")
PROGRAM_S = 1200
"""A program or file has one to fifty tests, most of which boot one machine."""


def main() -> int:
    options = _options()
    suite: Suite = SUITES[options.suite]
    folder: Path = options.work / options.suite
    folder.mkdir(parents=True, exist_ok=True)
    suite.prepare(folder)
    programs = options.programs or suite.programs(folder)
    entries = yaml.safe_load(EXPECTED.read_text())[options.suite]
    unexpected = 0
    for program in programs:
        outcome = run(suite, folder, program, options.runtime)
        expected = tap.expectations(entries.get(program, ()))
        surprises = tap.surprises(outcome, expected)
        unexpected += bool(surprises)
        report(program, outcome, surprises, tap.stale(outcome, expected))
    print(f"{options.suite}: {len(programs)} programs, {unexpected} with unexpected failures")
    return 1 if unexpected else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", type=Path, default=LAUNCHER, help="default: the checkout's katapy")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/katapy-conformance"), help="built programs, output")
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help="default: all of them")
    return parser.parse_args()


def report(program: str, outcome: tap.Outcome, surprises: list[str], stale: list[str]) -> None:
    verdict = "UNEXPECTED" if surprises else "ok"
    failed = len(outcome.failed)
    print(f"{verdict:<11}{program:<36}{outcome.passed:>5} ok {failed:>4} not ok, {outcome.skipped} skipped")
    for point in surprises:
        print(f"           {point}")
    for pattern in stale:
        print(f"           (expected to fail, and did not: {pattern})")
    sys.stdout.flush()


def run(suite: Suite, folder: Path, program: str, runtime: Path) -> tap.Outcome:
    """Runs one program, killed after PROGRAM_S. script(1) gives it a terminal; its output does not go there."""
    environment = {**os.environ, **suite.environment(folder, runtime.resolve())}
    out, err = folder / f"{program}.tap", folder / f"{program}.err"
    command = f"{shlex.join(suite.command(folder, program))} >&3 2>&4 3>&- 4>&-"
    with out.open("w") as tap_file, err.open("w") as err_file:
        process = subprocess.Popen(
            ["sh", "-c", 'exec script -qec "$1" /dev/null 3>&1 4>&2', "sh", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,  # never written to, never closed: script would pass an end on as input
            stdout=tap_file,
            stderr=err_file,
            start_new_session=True,
        )
        try:
            status = process.wait(PROGRAM_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
    return tap.parse(out.read_text(errors="replace"), status, status_tells=suite.status_tells)


if __name__ == "__main__":
    raise SystemExit(main())
