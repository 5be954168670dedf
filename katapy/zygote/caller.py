"""Who asks the zygote, and how he stands: what a child of his would have inherited. Read from /proc; zygote only.

Some of it a supervisor of ours can take on (limits, OOM score, priority, processors). Where the rest differs
(namespaces, root, rights, security label) a supervisor forked here would not be as his own, and he is refused.
"""

import os
import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from katapy.linux.proc import read_file, write_file
from katapy.storage.virtiofsd import NOFILE

_STATUS = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
"""Lines of /proc/<pid>/status."""
_LIMITS = tuple(getattr(resource, name) for name in sorted(dir(resource)) if name.startswith("RLIMIT_"))
_SET_BY_US = (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE)
"""Limits that QEMU and virtiofsd are given by us, whatever their parent has."""

Limit = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Standing:
    """`fixed`: what must be equal, by its name. `niceness`, `oom_score_adj` as the kernel has them."""

    fixed: Mapping[str, Any]
    limits: Mapping[int, Limit]
    niceness: int
    processors: frozenset[int]
    oom_score_adj: int


def read(pid: int) -> Standing:
    """Raises OSError: the process has gone."""
    return Standing(
        fixed=_fixed(pid),
        limits={limit: resource.prlimit(pid, limit) for limit in _LIMITS},
        niceness=os.getpriority(os.PRIO_PROCESS, pid),
        processors=frozenset(os.sched_getaffinity(pid)),
        oom_score_adj=int(read_file(f"/proc/{pid}/oom_score_adj")),
    )


def _fixed(pid: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in os.listdir("/proc/self/ns"):
        found[f"{kind} namespace"] = _identity(f"/proc/{pid}/ns/{kind}")
    found["root directory"] = _identity(f"/proc/{pid}/root")
    for line in read_file(f"/proc/{pid}/status").splitlines():
        name, _, value = line.partition(":")
        if name in _STATUS:
            found[name] = value.split()
    try:
        found["security label"] = read_file(f"/proc/{pid}/attr/current")
    except OSError:  # no security module
        found["security label"] = ""
    found["scheduling policy"] = os.sched_getscheduler(pid)
    return found


def difference(one: Standing, other: Standing) -> str:
    """The name of something that must be equal and is not, or nothing. Pure."""
    return next((name for name in one.fixed if one.fixed[name] != other.fixed.get(name)), "")


def suits_warm(caller: Standing, own: Standing) -> bool:
    """Whether a machine that was started by `own` is as if `caller` had started it. Pure.

    The OOM score can still be given to it. Limits that we set ourselves don't count, but that for descriptors as far
    as virtiofsd uses it. A lower limit of processes (Podman has the kernel's pid_max) is the supervisor's alone, which
    takes on all limits: QEMU may not start any (-sandbox spawn=deny), and virtiofsd is root.
    """
    descriptors = [min(_hard(s, resource.RLIMIT_NOFILE), NOFILE) for s in (caller, own)]
    apart = {*_SET_BY_US, resource.RLIMIT_NPROC}
    same = all(limit in apart or caller.limits[limit] == own.limits[limit] for limit in _LIMITS)
    return (
        same
        and descriptors[0] == descriptors[1]
        and _hard(caller, resource.RLIMIT_NPROC) <= _hard(own, resource.RLIMIT_NPROC)
        and caller.niceness == own.niceness
        and caller.processors == own.processors
    )


def _hard(standing: Standing, limit: int) -> int:
    """Unlimited is the highest number."""
    return standing.limits[limit][1] % 2**64


def take_on(standing: Standing) -> None:
    """The calling process (one thread) becomes like a child of that caller's. Raises OSError, ValueError."""
    set_oom_score((os.getpid(),), standing.oom_score_adj)
    if os.getpriority(os.PRIO_PROCESS, 0) != standing.niceness:
        os.setpriority(os.PRIO_PROCESS, 0, standing.niceness)
    if frozenset(os.sched_getaffinity(0)) != standing.processors:
        os.sched_setaffinity(0, standing.processors)
    take_limits(standing.limits)


def take_limits(limits: Mapping[int, Limit]) -> None:
    """The calling process's own. Raises OSError, ValueError."""
    for limit, value in limits.items():
        if resource.getrlimit(limit) != value:
            resource.setrlimit(limit, value)


def set_oom_score(pids: Iterable[int], score: int) -> None:
    """Raises OSError (to lower it takes CAP_SYS_RESOURCE)."""
    for pid in pids:
        path = f"/proc/{pid}/oom_score_adj"
        if int(read_file(path)) != score:
            write_file(path, str(score))


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
