"""What a pod holds, on the host and in its machine, as numbers that can be compared: before restarts and after them.

Runs in pytest and in `make bench`. The guest's are read through a container that sees the guest's own
processes (framework.bundle.at_the_guests).
"""

import os
from dataclasses import dataclass
from pathlib import Path

from framework import processes
from framework.leaks import CGROUPS
from framework.pod import Pod
from framework.runtime import Container, Runtime, owner_of
from framework.wait import wait_for

TEMPLATES = Path("/var/lib/katapy/templates")

_GUEST = """
root=/proc/1/root
count() { echo "$1 $(( $(eval "$2" | wc -l) ))"; }
count 'guest: descriptors of the agent' 'ls /proc/1/fd'
count 'guest: threads of the agent' 'ls /proc/1/task'
count 'guest: mounts' 'cat /proc/1/mountinfo'
count 'guest: processes' 'grep -L "^PPid:.[02]$" /proc/[0-9]*/status 2>/dev/null'
count 'guest: cgroups' 'find $root/sys/fs/cgroup -type d'
count 'guest: files of the agent' 'find $root/run -xdev'
count 'guest: network interfaces' 'ls /sys/class/net'
count 'guest: memory blocks' 'ls -d /sys/devices/system/memory/memory*'
count 'guest: processors' 'ls -d /sys/devices/system/cpu/cpu[0-9]*'
awk '/^RssAnon/ { print "guest: memory of the agent KiB", $2 }' /proc/1/status
awk '/^SUnreclaim/ { print "guest: slab KiB", $2 }' /proc/meminfo
awk '/^nr_dying_descendants/ { print "guest: dying cgroups", $2 }' $root/sys/fs/cgroup/cgroup.stat
echo 2 > /proc/sys/vm/drop_caches
"""
"""At the end names and inodes that nobody uses are dropped, as the agent does when a container goes: the server of the
share holds a descriptor for each, those that this very look has made among them."""

_POOLED = {"guest: threads of the agent": 4}
"""What a count may be larger by: idle threads of asyncio's pool (processors + 4) and of grpc's stay, and one more is
made whenever none is idle."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """`counts` must be the same again, or within `_POOLED`; `sizes` (KiB, and what the kernel gives back when it likes)
    may vary.

    Threads of the guest's kernel come and go with its work: they are no processes here, zombies are.
    """

    counts: dict[str, int]
    sizes: dict[str, int]

    def grown(self, before: "Holdings") -> dict[str, int]:
        """Name -> difference, of the counts that are larger than they were."""
        more = {name: now - before.counts[name] for name, now in self.counts.items()}
        return {name: number for name, number in more.items() if number > _POOLED.get(name, 0)}


def await_no_more(pod: Pod, before: Holdings, deadline_s: float) -> Holdings:
    """What the pod holds once no count is larger than before. AssertionError, with what is, after the deadline."""
    found: list[Holdings] = []

    def no_more() -> bool:
        found[:] = [take(pod)]
        return not found[0].grown(before)

    try:
        wait_for("the pod to hold no more than before", no_more, deadline_s)
    except AssertionError as e:
        raise AssertionError(f"{e}: {found[0].grown(before)}") from None
    return found[0]


def take(pod: Pod) -> Holdings:
    """Of a pod whose sandbox is `at_the_guests`."""
    lines = pod.sandbox.sh(_GUEST).splitlines()
    counts, sizes = _of_the_host(pod.runtime, pod.sandbox)  # after the guest's: looking there leaves files open here
    for line in lines:
        name, _, number = line.rpartition(" ")
        (sizes if name.endswith(("KiB", "dying cgroups")) else counts)[name] = int(number)
    return Holdings(counts, sizes)


def _of_the_host(runtime: Runtime, sandbox: Container) -> tuple[dict[str, int], dict[str, int]]:
    supervisor = owner_of(sandbox, "supervisor")
    counts = {
        "files below the state root": sum(1 for _ in runtime.root.rglob("*")),
        "files of templates": sum(1 for _ in TEMPLATES.rglob("*")),
        "mounts": _lines("/proc/self/mountinfo"),
        "cgroups": sum(runtime.token in folder for folder, _, _ in os.walk(CGROUPS)),
        "interfaces of the network namespace": _lines(f"/proc/{sandbox.pid}/net/dev"),
        "lines of the supervisor's log": _lines(f"{sandbox.state_dir}/supervisor.log"),
    }
    sizes: dict[str, int] = {}
    for name, pid in {"supervisor": supervisor, **_helpers(supervisor)}.items():
        counts[f"descriptors of {name}"] = len(processes.descriptors(pid))
        counts[f"mounts of {name}"] = _lines(f"/proc/{pid}/mountinfo")
        sizes[f"memory of {name} KiB"] = processes.pss_kib(pid)
    counts["threads of supervisor"] = len(os.listdir(f"/proc/{supervisor}/task"))
    return counts, sizes


def _helpers(supervisor: int) -> dict[str, int]:
    """QEMU, and virtiofsd by the process that serves: the C one has a parent that only waits."""
    return {
        os.path.basename(process.command.split(" ", 1)[0]): process.pid for process in processes.descendants(supervisor)
    }


def _lines(path: str) -> int:
    return len(Path(path).read_bytes().splitlines())
