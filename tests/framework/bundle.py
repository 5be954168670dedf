"""Bundles: a busybox root file system and a config.json like the one `runc spec` writes, changed as a test needs it.

Runs in pytest. Nothing of katapy is used, so the bundles prove something about katapy.
"""

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

Spec = dict[str, Any]
BUSYBOX = Path("/bin/busybox")
PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
# fmt: off
DEFAULT_CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETFCAP",
    "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
]
ALL_CAPABILITIES = [
    *DEFAULT_CAPABILITIES, "CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE", "CAP_BLOCK_SUSPEND", "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE", "CAP_DAC_READ_SEARCH", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_MKNOD", "CAP_NET_ADMIN", "CAP_NET_BROADCAST",
    "CAP_NET_RAW", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_MODULE",
    "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG", "CAP_WAKE_ALARM",
]
# fmt: on
FOREVER = ("sleep", "1000000")

_MOUNTS: list[Spec] = [
    {"destination": destination, "type": type_, "source": source, "options": options}
    for destination, type_, source, options in (
        ("/proc", "proc", "proc", []),
        ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
        ("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"]),
    )
]
_MASKED = ["/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware"]
_READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder with config.json and rootfs/. `spec` is what config.json was made from; `save` writes it again."""

    path: Path
    spec: Spec

    @property
    def rootfs(self) -> Path:
        return self.path / "rootfs"

    def save(self) -> "Bundle":
        (self.path / "config.json").write_text(json.dumps(self.spec, indent=1))
        return self


def make_bundle(
    folder: Path,
    args: Sequence[str] = FOREVER,
    *,
    cgroup: str = "",
    terminal: bool = False,
    mounts: Sequence[Spec] = (),
    resources: Spec | None = None,
    process: Spec | None = None,
    linux: Spec | None = None,
    edit: Callable[[Spec], None] | None = None,
    **top: Any,
) -> Bundle:
    """Makes `folder` a bundle that runs `args`.

    mounts: added to the usual ones. process, linux, top: members that replace those of the same name.
    edit: has the last word.
    """
    make_rootfs(folder / "rootfs")
    spec = default_spec(args, cgroup, terminal)
    spec["mounts"] += mounts
    spec["process"] |= process or {}
    spec["linux"] |= linux or {}
    if resources is not None:
        spec["linux"]["resources"] |= resources
    spec |= top
    if edit is not None:
        edit(spec)
    return Bundle(folder, spec).save()


def default_spec(args: Sequence[str], cgroup: str = "", terminal: bool = False) -> Spec:
    """What runc's `spec` gives, but not read-only, and without a cgroup path unless one is given."""
    kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup"]
    linux: Spec = {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": kind} for kind in kinds],
        "maskedPaths": list(_MASKED),
        "readonlyPaths": list(_READONLY),
    }
    if cgroup:
        linux["cgroupsPath"] = cgroup
    return {
        "ociVersion": "1.0.2",
        "process": default_process(args, terminal),
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": copy.deepcopy(_MOUNTS),
        "linux": linux,
    }


def default_process(args: Sequence[str], terminal: bool = False) -> Spec:
    """The `process` object: root with Docker's capabilities."""
    kinds = ("bounding", "effective", "permitted")
    return {
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": list(args),
        "env": [PATH, "TERM=xterm"],
        "cwd": "/",
        "capabilities": {kind: list(DEFAULT_CAPABILITIES) for kind in kinds},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }


def at_the_guests(spec: Spec) -> None:
    """A privileged container that sees the guest's own processes, and through /proc/1/root its files. For `edit`."""
    privileged(spec)
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "pid"]


def privileged(spec: Spec) -> None:
    """An `edit` that takes the fences down, as `docker run --privileged` does."""
    kinds = ("bounding", "effective", "permitted", "inheritable")
    spec["process"]["capabilities"] = {kind: list(ALL_CAPABILITIES) for kind in kinds}
    spec["process"]["noNewPrivileges"] = False
    spec["linux"]["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
    del spec["linux"]["maskedPaths"], spec["linux"]["readonlyPaths"]
    for mount in spec["mounts"]:
        mount["options"] = [o for o in mount.get("options", []) if o not in ("ro", "nodev")]


def make_rootfs(folder: Path) -> Path:
    """busybox with a link for each applet, and the folders and files one expects of a root."""
    for name in ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "var/run"):
        (folder / name).mkdir(parents=True)
    (folder / "tmp").chmod(0o1777)
    shutil.copy(BUSYBOX, folder / "bin/busybox")
    for applet in _applets():
        os.symlink("busybox", folder / "bin" / applet)
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nmail:x:8:12:mail:/home:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\ntty:x:5:\nmail:x:12:\nstaff:x:50:mail\n")
    return folder


@cache
def _applets() -> tuple[str, ...]:
    names = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True, timeout=10).stdout.split()
    return tuple(name for name in names if name != "busybox")
