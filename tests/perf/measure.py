"""Single measurements, each of a real command. Used by bench.py."""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from framework import processes
from framework.bundle import Bundle
from framework.runtime import BOOT_S, Container, Runtime

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds after the call. `phases`: each its length."""

    first_byte: float
    exit: float
    phases: dict[str, float] = field(default_factory=dict)


def output(argv: Sequence[str]) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def milliseconds(argv: Sequence[str]) -> float:
    """Wall time of a whole process, which must succeed. posix_spawn: what subprocess adds is not the runtime's."""
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1)]
    begun = time.monotonic()
    pid = os.posix_spawn(argv[0], list(argv), os.environ, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    seconds = time.monotonic() - begun
    os.close(null)
    if status:
        raise RuntimeError(f"{' '.join(argv)} failed: {os.waitstatus_to_exitcode(status)}")
    return seconds * 1000


def first_byte(runtime: Runtime, bundle: Bundle) -> Start:
    """`run`, timed by a reader of its stdout."""
    flags = ["--timings"] if runtime.name != "runc" else []
    begun = time.monotonic()
    process = runtime.popen(
        "run", *flags, "--bundle", bundle.path, runtime.new_id(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    seen = time.monotonic() - begun
    process.stdout.read()
    said = process.stderr.read().decode()
    if process.wait(BOOT_S):
        raise RuntimeError(f"run failed: {said}")
    return Start(seen, time.monotonic() - begun, _phases(said))


def create_cpu(runtime: Runtime, bundle: Bundle) -> tuple[Container, float]:
    """A container that was created, and the CPU seconds of command line and supervisor until then (QEMU's are not)."""
    container = Container(runtime, runtime.new_id(), bundle)
    process = runtime.popen(
        "create", "--bundle", bundle.path, "--pid-file", container.pid_file, container.id, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"create failed: {process.returncode}")
    stat = Path(f"/proc/{_supervisor(container)}/stat").read_text().rpartition(")")[2].split()
    ticks = int(stat[11]) + int(stat[12])  # utime, stime: its own, without children
    return container, usage.ru_utime + usage.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def _supervisor(container: Container) -> int:
    return int(json.loads((container.state_dir / "state.json").read_text())["supervisor_pid"])


def _phases(said: str) -> dict[str, float]:
    """Lines of `run --timings`: name, seconds, `s`, `+` length."""
    found = {}
    for line in said.splitlines():
        words = line.split()
        if len(words) >= 4 and words[-1].startswith("+"):
            found[" ".join(words[:-3])] = float(words[-1])
    return found


def exec_steps(container: Container) -> dict[str, float]:
    """What one `exec true` consists of, in ms. The unary call is made for comparison and is not part of it."""
    said = container.exec("true", flags=["--timings"]).ok().err
    steps = {}
    for line in said.splitlines():
        name, seconds, _ = line.rsplit(None, 2)
        place = "beside it" if name == "one unary call" else "of it"
        steps[f"  {place}: {name}"] = float(seconds) * 1000
    return steps


def memory(container: Container) -> dict[str, int]:
    """PSS in KiB of what one container costs. The C virtiofsd is two processes."""
    supervisor = _supervisor(container)
    found = {"stand-in": processes.pss_kib(container.pid), "supervisor": processes.pss_kib(supervisor)}
    for helper in processes.descendants(supervisor):
        name = "QEMU" if "qemu-system" in helper.command.split(" ", 1)[0] else "virtiofsd"
        found[name] = found.get(name, 0) + processes.pss_kib(helper.pid)
    return found


def output_command(mib: int) -> list[str]:
    """Says when it begins, so that the boot is not part of the rate."""
    return ["sh", "-c", f"echo; dd if=/dev/zero bs=65536 count={mib * 16} 2>/dev/null"]


def output_rate(runtime: Runtime, bundle: Bundle, mib: int) -> float:
    """MB/s of a container's stdout, read as fast as it comes."""
    process = runtime.popen("run", "--bundle", bundle.path, runtime.new_id(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(1)
    begun, received = time.monotonic(), 0
    while data := process.stdout.read1(MIB):  # type: ignore[attr-defined]
        received += len(data)
    seconds = time.monotonic() - begun
    status = process.wait(BOOT_S)
    if status or received != mib * MIB:
        raise RuntimeError(f"{received} bytes instead of {mib * MIB}, status {status}")
    return received / seconds / 1_000_000
