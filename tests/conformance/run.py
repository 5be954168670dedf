"""Public conformance programs (runtime-tools 0.9.0) against a runtime: what fails, and whether that was to be expected.

    python tests/conformance/run.py [--runtime PATH] [--work DIR] [PROGRAM ...]

Needs root, the guest image, and Go with its module proxy, which is why it is no part of `make test`. The exit status
is 1 if a program fails otherwise than expected.yaml says.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
MODULE = "github.com/opencontainers/runtime-tools"
LAUNCHER = Path(sys.executable).with_name("katapy")
PROGRAM_S = 900
"""Most programs boot one machine, some a dozen."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program said. `failed`: the points that are not ok; `broken`: it ended without saying enough."""

    passed: int
    failed: tuple[str, ...]
    broken: bool

    @property
    def failures(self) -> int:
        return len(self.failed) + self.broken


def main() -> int:
    options = _options()
    programs = options.programs or all_programs()
    build(options.work, programs)
    expected = yaml.safe_load((HERE / "expected.yaml").read_text())
    surprises = 0
    for program in programs:
        outcome = run(options.work, program, options.runtime)
        allowed = int(expected.get(program, {}).get("failures", 0))
        verdict = {True: "ok", False: "UNEXPECTED"}[outcome.failures <= allowed]
        surprises += outcome.failures > allowed
        print(f"{verdict:<11}{program:<36}{outcome.passed:>5} ok {outcome.failures:>4} not ok, {allowed} expected")
        for point in outcome.failed if outcome.failures > allowed else ():
            print(f"           {point}")
        sys.stdout.flush()
    print(f"{len(programs)} programs, {surprises} with unexpected failures")
    return 1 if surprises else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", type=Path, default=LAUNCHER, help="default: the checkout's katapy")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/katapy-conformance"), help="built programs, output")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help="default: all of them")
    return parser.parse_args()


def all_programs() -> list[str]:
    return re.findall(r"/validation/(\w+)\"", (HERE / "programs.go").read_text())


def build(work: Path, programs: list[str]) -> None:
    """Compiles what is not there yet, statically: runtimetest runs in the container."""
    work.mkdir(parents=True, exist_ok=True)
    wanted = {"runtimetest": "cmd/runtimetest", **{name: f"validation/{name}" for name in programs}}
    for name, package in wanted.items():
        if not (work / name).exists():
            print(f"building {name}", file=sys.stderr, flush=True)
            _go("build", "-o", str(work / name), f"{MODULE}/{package}")
    module = json.loads(_go("list", "-m", "-json", MODULE))["Dir"]
    for archive in Path(module).glob("rootfs-*.tar.gz"):
        shutil.copyfile(archive, work / archive.name)


def _go(*arguments: str) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
    return subprocess.run(
        ["go", *arguments], cwd=HERE, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def run(work: Path, program: str, runtime: Path) -> Outcome:
    """Runs one program in a session of its own, which is killed after PROGRAM_S."""
    environment = {**os.environ, "RUNTIME": str(runtime)}
    with (work / f"{program}.tap").open("w") as out, (work / f"{program}.err").open("w") as err:
        process = subprocess.Popen(
            [work / program], cwd=work, env=environment, stdout=out, stderr=err, start_new_session=True
        )
        try:
            status = process.wait(PROGRAM_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
    return parse((work / f"{program}.tap").read_text(errors="replace"), status)


def parse(tap: str, status: int) -> Outcome:
    """Pure: from the Test Anything Protocol. Some programs print no point at all where all is well."""
    points = [line for line in tap.splitlines() if re.match(r"(not )?ok\b", line)]
    failed = tuple(line for line in points if line.startswith("not") and "# SKIP" not in line)
    return Outcome(len(points) - len(failed), failed, status != 0)


if __name__ == "__main__":
    raise SystemExit(main())
