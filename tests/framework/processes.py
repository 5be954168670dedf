"""Processes of this host, from /proc: who descends from the test run, what they hold. Runs in pytest.

pytest makes itself a subreaper, as conmon does: whatever the runtime under test leaves behind becomes a child of
pytest, where its exit status can be read and where it can't hide.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from framework.wait import wait_for
from katapy.cgroups import Cgroup
from katapy.linux import proc

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Process:
    """`start` (clock ticks since boot) tells a process from a later one with its pid."""

    pid: int
    start: int
    parent: int
    state: str
    command: str


def become_subreaper() -> None:
    """Orphans of our descendants become our children. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def all_processes() -> dict[int, Process]:
    """By pid. Those that end while we look are left out."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                found[int(name)] = _read(int(name))
    return found


def find(pid: int) -> Process | None:
    """None if there is no such process, or only its zombie."""
    try:
        process = _read(pid)
    except OSError:
        return None
    return None if process.state in "ZX" else process


def alive(pid: int) -> bool:
    return find(pid) is not None


def _read(pid: int) -> Process:
    stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    name, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return Process(pid, int(fields[19]), int(fields[1]), fields[0], command or f"[{name}]")


def descendants(ancestor: int) -> Iterator[Process]:
    """Living ones, children first."""
    processes = all_processes()
    children: dict[int, list[Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    pending = list(children.get(ancestor, []))
    while pending:
        process = pending.pop(0)
        pending += children.get(process.pid, [])
        if process.state not in "ZX":
            yield process


def reap_orphans() -> None:
    """Takes zombies away that were reparented to us. Not to be called while the test has a Popen of its own."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def exit_status(pid: int, deadline_s: float = 30.0) -> int:
    """Waits for our (adopted) child `pid`: its exit status, 128 + N for signal N. AssertionError after the deadline."""

    def ended() -> tuple[int] | None:
        found, status = os.waitpid(pid, os.WNOHANG)
        return (os.waitstatus_to_exitcode(status),) if found else None

    code = wait_for(f"process {pid} ends", ended, deadline_s)[0]
    return code if code >= 0 else 128 - code


def descriptors(pid: int) -> list[str]:
    """What the process's open descriptors point to."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return sorted(found)


def pss_kib(pid: int) -> int:
    """Proportional set size of `pid` in KiB."""
    kib = proc.pss_kib(pid)
    assert kib > 0, f"no Pss in /proc/{pid}/smaps_rollup"
    return kib


def sleeper(cgroup: Cgroup) -> int:
    """Pid of a child that is in `cgroup` and does nothing. The caller ends and reaps it."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    cgroup.join(pid)
    return pid
