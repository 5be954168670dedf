"""Rules of the runtime-spec that types can't say, in runc's words where runc has any (engines look for them). CLI.

`validate_bundle` for create and run, `validate_process` for exec: both raise SpecError. What crun in the guest
checks better (seccomp rules, mount options of a file system) is left to it.
"""

import os
import posixpath
import re
from collections.abc import Iterable
from typing import Any

from katapy.errors import SpecError
from katapy.oci.features import NAMESPACES
from katapy.oci.spec import Bundle, Hook, Linux, Process, Spec, read_process

# fmt: off
_RLIMITS = (
    "AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE",
    "NICE", "NOFILE", "NPROC", "RSS", "RTPRIO", "RTTIME", "SIGPENDING", "STACK",
)
_IPC_SYSCTLS = ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
# fmt: on
RLIMITS = frozenset("RLIMIT_" + name for name in _RLIMITS)
IPC_SYSCTLS = frozenset("kernel." + name for name in _IPC_SYSCTLS)
PROPAGATIONS = frozenset(
    prefix + name for name in ("shared", "slave", "private", "unbindable") for prefix in ("", "r")
) | {""}
DEVICE_TYPES = frozenset("cubp")
HOOK_KINDS = ("prestart", "create_runtime", "create_container", "start_container", "poststart", "poststop")
_DESCRIPTOR = re.compile("/proc/[^/]+(/task/[^/]+)?/fd(/|$)")
_SWAPPED = str.maketrans("./", "/.")
MAX_HOSTNAME = 64
"""__NEW_UTS_LEN of the kernel."""


def validate_bundle(bundle: Bundle) -> None:
    """Raises SpecError, with the JSON path, for the first rule that the bundle breaks."""
    spec = bundle.spec
    _check_version(spec)
    if spec.process is not None:
        validate_process(spec.process)
    _check_root(bundle)
    kinds = _check_namespaces(spec.linux or Linux())
    _check_names(spec, kinds)
    _check_mounts(spec)
    _check_hooks(spec)
    _check_linux(spec.linux or Linux(), kinds)
    _no_nul(spec.annotations or {}, "$.annotations")


def validate_process(process: Process, path: str = "$.process") -> None:
    """Raises SpecError. `path` is where the process object is in its document."""
    if not process.args:
        raise SpecError("args must not be empty", f"{path}.args")
    if not process.cwd:
        raise SpecError("Cwd property must not be empty", f"{path}.cwd")
    if not process.cwd.startswith("/"):
        raise SpecError("Cwd must be an absolute path", f"{path}.cwd")
    if _DESCRIPTOR.match(posixpath.normpath(process.cwd)):
        raise SpecError("cwd can't be a descriptor of the runtime", f"{path}.cwd")  # CVE-2024-21626
    for name, texts in (("args", process.args), ("env", process.env or []), ("cwd", [process.cwd])):
        _no_nul(texts, f"{path}.{name}")
    for entry in process.env or []:
        if entry.find("=") < 1:
            raise SpecError(f"invalid environment variable: {entry[:80]!r}: expected name=value", f"{path}.env")
    seen = set()
    for rlimit in process.rlimits or []:
        if rlimit.type not in RLIMITS:
            raise SpecError(f"wrong rlimit value: {rlimit.type}", f"{path}.rlimits")
        if rlimit.type in seen:
            raise SpecError(f"rlimit {rlimit.type} is set twice", f"{path}.rlimits")
        seen.add(rlimit.type)
    if process.oom_score_adj is not None and not -1000 <= process.oom_score_adj <= 1000:
        raise SpecError(f"oomScoreAdj {process.oom_score_adj} is not from -1000 to 1000", f"{path}.oomScoreAdj")


def _check_version(spec: Spec) -> None:
    version = spec.oci_version
    if not version:
        raise SpecError("ociVersion must be specified", "$.ociVersion")
    major, *rest = version.split(".")
    if major != "1" or not rest:
        raise SpecError(f"ociVersion {version[:40]!r} is not supported: only 1.x is", "$.ociVersion")


def rootfs(bundle: Bundle) -> str:
    """Absolute path of the root file system, as the spec names it."""
    path = (bundle.spec.root.path if bundle.spec.root else None) or ""
    return os.path.normpath(os.path.join(bundle.path, path))


def _check_root(bundle: Bundle) -> None:
    if bundle.spec.root is None:
        raise SpecError("root must be specified", "$.root")
    if not bundle.spec.root.path:
        raise SpecError("root path must not be empty", "$.root.path")
    _no_nul([bundle.spec.root.path], "$.root.path")
    path = rootfs(bundle)
    if not os.path.exists(path):
        raise SpecError(f"invalid rootfs: stat {path}: no such file or directory", "$.root.path")
    if os.path.islink(path):
        raise SpecError("invalid rootfs: not an absolute path, or a symlink", "$.root.path")
    if not os.path.isdir(path):
        raise SpecError(f"invalid rootfs: {path}: not a directory", "$.root.path")


def _check_namespaces(linux: Linux) -> dict[str, str]:
    """Type -> path ("" for a new one)."""
    kinds: dict[str, str] = {}
    for index, namespace in enumerate(linux.namespaces or []):
        at, kind, path = f"$.linux.namespaces[{index}]", namespace.type or "", namespace.path or ""
        if kind not in NAMESPACES:
            raise SpecError(f"namespace {kind[:40]!r} does not exist", f"{at}.type")
        if kind in kinds:
            raise SpecError(f"malformed spec file: duplicated ns {kind!r}", at)
        if path and not path.startswith("/"):
            raise SpecError(f"namespace path {path[:80]!r} is not absolute", f"{at}.path")
        _no_nul([path], f"{at}.path")
        kinds[kind] = path
    return kinds


def _check_names(spec: Spec, kinds: dict[str, str]) -> None:
    for key, name in (("hostname", spec.hostname or ""), ("domainname", spec.domainname or "")):
        if name and "uts" not in kinds:
            raise SpecError(f"unable to set {key} without a private UTS namespace", f"$.{key}")
        if len(name.encode()) > MAX_HOSTNAME:
            raise SpecError(f"{key} is longer than {MAX_HOSTNAME} bytes", f"$.{key}")
        _no_nul([name], f"$.{key}")


def _check_mounts(spec: Spec) -> None:
    for index, mount in enumerate(spec.mounts or []):
        at = f"$.mounts[{index}]"
        if not mount.destination:
            raise SpecError("mount destination must not be empty", f"{at}.destination")
        if ".." in mount.destination.split("/"):
            raise SpecError(f"mount destination {mount.destination[:80]!r} must not contain ..", f"{at}.destination")
        _no_nul([mount.destination, mount.source or "", mount.type or "", *(mount.options or [])], at)
        if bool(mount.uid_mappings) != bool(mount.gid_mappings):
            raise SpecError("uidMappings and gidMappings of a mount must be given together", at)


def _check_hooks(spec: Spec) -> None:
    for kind in HOOK_KINDS:
        hooks: list[Hook] = (getattr(spec.hooks, kind) if spec.hooks else None) or []
        first, *rest = kind.split("_")
        name = first + "".join(word.capitalize() for word in rest)
        for index, hook in enumerate(hooks):
            at = f"$.hooks.{name}[{index}]"
            if not (hook.path or "").startswith("/"):
                raise SpecError(f"hook path {(hook.path or '')[:80]!r} is not absolute", f"{at}.path")
            if hook.timeout is not None and hook.timeout <= 0:
                raise SpecError(f"hook timeout {hook.timeout} is not greater than zero", f"{at}.timeout")
            _no_nul([hook.path or "", *(hook.args or []), *(hook.env or [])], at)


def _check_linux(linux: Linux, kinds: dict[str, str]) -> None:
    if (linux.masked_paths or linux.readonly_paths) and "mount" not in kinds:
        raise SpecError("unable to restrict sys entries without a private MNT namespace", "$.linux.maskedPaths")
    for name, paths in (("maskedPaths", linux.masked_paths or []), ("readonlyPaths", linux.readonly_paths or [])):
        for path in paths:
            if not path.startswith("/"):
                raise SpecError(f"path {path[:80]!r} is not absolute", f"$.linux.{name}")
        _no_nul(paths, f"$.linux.{name}")
    mapped = bool(linux.uid_mappings), bool(linux.gid_mappings)
    if "user" in kinds and not kinds["user"] and mapped != (True, True):
        missing = "uid" if not mapped[0] else "gid"
        raise SpecError(f"User namespaces enabled, but no {missing} mappings found.", f"$.linux.{missing}Mappings")
    if (linux.rootfs_propagation or "") not in PROPAGATIONS:
        raise SpecError(f"rootfsPropagation={linux.rootfs_propagation} is not supported", "$.linux.rootfsPropagation")
    for index, device in enumerate(linux.devices or []):
        at = f"$.linux.devices[{index}]"
        if not (device.path or "").startswith("/"):
            raise SpecError(f"device path {(device.path or '')[:80]!r} is not absolute", f"{at}.path")
        _no_nul([device.path or ""], f"{at}.path")
        if device.type not in DEVICE_TYPES:
            raise SpecError(f'invalid device type "{device.type}"', f"{at}.type")
    _no_nul([linux.cgroups_path or ""], "$.linux.cgroupsPath")
    for key in linux.sysctl or {}:
        _check_sysctl(key, kinds)
    if linux.time_offsets and "time" not in kinds:
        raise SpecError("time namespace offsets specified, but time namespace isn't enabled in the config", "$.linux")


def _check_sysctl(key: str, kinds: dict[str, str]) -> None:
    name, at = _dotted(key), "$.linux.sysctl"
    if {"", ".", ".."} & set(name.translate(_SWAPPED).split("/")) or "\0" in name:
        raise SpecError(f'sysctl "{key}" is not a name', at)
    if name in IPC_SYSCTLS or name.startswith("fs.mqueue."):
        if "ipc" not in kinds:
            raise SpecError(f'sysctl "{key}" is not allowed in the hosts ipc namespace', at)
    elif name.startswith("net."):
        if "network" not in kinds:
            raise SpecError(f'sysctl "{key}" not allowed in host network namespace', at)
    elif name == "kernel.domainname":
        if "uts" not in kinds:
            raise SpecError(f'sysctl "{key}" is not allowed in the hosts uts namespace', at)
    elif name == "kernel.hostname":
        raise SpecError(f'sysctl "{key}" is not allowed as it conflicts with the OCI "hostname" field', at)
    else:
        raise SpecError(f'sysctl "{key}" is not in a separate kernel namespace', at)


def _dotted(key: str) -> str:
    """net/ipv4/conf/eth0.1/x and net.ipv4.conf.eth0/1.x are the same: the first separator decides, as in sysctl(8)."""
    first = next((c for c in key if c in "./"), ".")
    return key if first == "." else key.translate(_SWAPPED)


def _no_nul(texts: Iterable[str], path: str) -> None:
    if any("\0" in text for text in texts):
        raise SpecError("a string contains a NUL character", path)


def load_process(path: str) -> dict[str, Any]:
    """A process.json for exec as it stands, read and checked. Raises SpecError, HostError."""
    process, raw = read_process(path)
    validate_process(process, "$")
    return raw
