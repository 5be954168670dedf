"""config.json and process.json of the OCI runtime-spec (1.0 to 1.3, Linux) as msgspec Structs.

Read by create, run, exec and update. A Struct checks types and ranges; unknown members are kept in `raw`, which goes
on to the guest. Go's JSON, which every engine uses, takes null for "not there": so does every member here. Rules
between members are in validate.py.
"""

import os
from typing import Annotated, Any, TypeVar

import msgspec

from katapy.errors import HostError, SpecError, errno_text
from katapy.oci.resources import Int64, Resources, Uint16, Uint32, Uint64

T = TypeVar("T")

MAX_FILE = 16 * 1024 * 1024
_MAX_DEPTH = 64
_BOM = b"\xef\xbb\xbf"

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


class Box(msgspec.Struct, frozen=True):
    height: Uint16 = 0
    width: Uint16 = 0


class User(msgspec.Struct, frozen=True, rename="camel"):
    uid: Uint32 | None = None
    gid: Uint32 | None = None
    umask: Uint32 | None = None
    additional_gids: list[Uint32] | None = None
    username: str | None = None


class Capabilities(msgspec.Struct, frozen=True):
    bounding: list[str] | None = None
    effective: list[str] | None = None
    inheritable: list[str] | None = None
    permitted: list[str] | None = None
    ambient: list[str] | None = None


class Rlimit(msgspec.Struct, frozen=True):
    type: str = ""
    hard: Uint64 | None = None
    soft: Uint64 | None = None


class IoPriority(msgspec.Struct, frozen=True):
    class_: str | None = msgspec.field(default=None, name="class")
    priority: Int32 | None = None


class Scheduler(msgspec.Struct, frozen=True):
    policy: str | None = None
    nice: Int32 | None = None
    priority: Int32 | None = None
    flags: list[str] | None = None
    runtime: Uint64 | None = None
    deadline: Uint64 | None = None
    period: Uint64 | None = None


class CpuAffinity(msgspec.Struct, frozen=True):
    initial: str | None = None
    final: str | None = None


class Process(msgspec.Struct, frozen=True, rename="camel"):
    terminal: bool | None = None
    console_size: Box | None = None
    user: User | None = None
    args: list[str] | None = None
    env: list[str] | None = None
    cwd: str | None = None
    capabilities: Capabilities | None = None
    rlimits: list[Rlimit] | None = None
    no_new_privileges: bool | None = None
    apparmor_profile: str | None = None
    oom_score_adj: Int32 | None = None
    scheduler: Scheduler | None = None
    selinux_label: str | None = None
    io_priority: IoPriority | None = None
    exec_cpu_affinity: CpuAffinity | None = msgspec.field(default=None, name="execCPUAffinity")


class Root(msgspec.Struct, frozen=True):
    path: str | None = None
    readonly: bool | None = None


class IdMapping(msgspec.Struct, frozen=True):
    container_id: Uint32 | None = msgspec.field(default=None, name="containerID")
    host_id: Uint32 | None = msgspec.field(default=None, name="hostID")
    size: Uint32 | None = None


class Mount(msgspec.Struct, frozen=True, rename="camel"):
    destination: str | None = None
    type: str | None = None
    source: str | None = None
    options: list[str] | None = None
    uid_mappings: list[IdMapping] | None = None
    gid_mappings: list[IdMapping] | None = None


class Hook(msgspec.Struct, frozen=True):
    path: str | None = None
    args: list[str] | None = None
    env: list[str] | None = None
    timeout: Int32 | None = None


class Hooks(msgspec.Struct, frozen=True, rename="camel"):
    prestart: list[Hook] | None = None
    create_runtime: list[Hook] | None = None
    create_container: list[Hook] | None = None
    start_container: list[Hook] | None = None
    poststart: list[Hook] | None = None
    poststop: list[Hook] | None = None


class Namespace(msgspec.Struct, frozen=True):
    type: str | None = None
    path: str | None = None


class Device(msgspec.Struct, frozen=True, rename="camel"):
    path: str | None = None
    type: str | None = None
    major: Int64 | None = None
    minor: Int64 | None = None
    file_mode: Uint32 | None = None
    uid: Uint32 | None = None
    gid: Uint32 | None = None


class SeccompArg(msgspec.Struct, frozen=True, rename="camel"):
    index: Uint32 | None = None
    value: Uint64 | None = None
    value_two: Uint64 | None = None
    op: str | None = None


class Syscall(msgspec.Struct, frozen=True, rename="camel"):
    names: list[str] | None = None
    action: str | None = None
    errno_ret: Uint32 | None = None
    args: list[SeccompArg] | None = None


class Seccomp(msgspec.Struct, frozen=True, rename="camel"):
    default_action: str | None = None
    default_errno_ret: Uint32 | None = None
    architectures: list[str] | None = None
    flags: list[str] | None = None
    listener_path: str | None = None
    listener_metadata: str | None = None
    syscalls: list[Syscall] | None = None


class TimeOffset(msgspec.Struct, frozen=True):
    secs: Int64 | None = None
    nanosecs: Uint32 | None = None


class Personality(msgspec.Struct, frozen=True):
    domain: str | None = None
    flags: list[str] | None = None


class Linux(msgspec.Struct, frozen=True, rename="camel"):
    uid_mappings: list[IdMapping] | None = None
    gid_mappings: list[IdMapping] | None = None
    sysctl: dict[str, str] | None = None
    resources: Resources | None = None
    cgroups_path: str | None = None
    namespaces: list[Namespace] | None = None
    devices: list[Device] | None = None
    net_devices: dict[str, Any] | None = None
    seccomp: Seccomp | None = None
    rootfs_propagation: str | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    mount_label: str | None = None
    intel_rdt: dict[str, Any] | None = None
    personality: Personality | None = None
    time_offsets: dict[str, TimeOffset] | None = None
    memory_policy: dict[str, Any] | None = None


class Spec(msgspec.Struct, frozen=True, rename="camel"):
    oci_version: str | None = None
    process: Process | None = None
    root: Root | None = None
    hostname: str | None = None
    domainname: str | None = None
    mounts: list[Mount] | None = None
    hooks: Hooks | None = None
    annotations: dict[str, str] | None = None
    linux: Linux | None = None


class Bundle(msgspec.Struct, frozen=True):
    """A bundle that was read and checked for types. `path` is absolute; `raw` is config.json with everything in it."""

    path: str
    spec: Spec
    raw: dict[str, Any]


def load_bundle(path: str, name: str = "config.json") -> Bundle:
    """Reads `path`/`name` ("" is the working directory). Raises SpecError with runc's words, HostError."""
    folder = os.path.abspath(path or ".")
    if not os.path.isdir(folder):
        raise SpecError(f"chdir {path}: {'not a directory' if os.path.exists(folder) else 'no such file or directory'}")
    try:
        data = read_file(os.path.join(folder, name))
    except FileNotFoundError as e:
        raise SpecError(f"JSON specification file {name} not found") from e
    raw = decode(data, name)
    return Bundle(folder, _convert(raw, Spec), raw)


def read_process(path: str) -> tuple[Process, dict[str, Any]]:
    """Reads a process.json: (checked for types, as it stands). Raises SpecError, HostError."""
    try:
        data = read_file(path)
    except FileNotFoundError as e:
        raise SpecError(f"open {path}: no such file or directory") from e
    raw = decode(data, path)
    return _convert(raw, Process), raw


def convert_resources(raw: dict[str, Any]) -> Resources:
    """The resources object of `update`, checked. Raises SpecError."""
    return _convert(raw, Resources)


def read_file(path: str) -> bytes:
    """The whole file, at most MAX_FILE bytes. Raises FileNotFoundError, HostError, SpecError (too large)."""
    try:
        # Not blocking: it could be a pipe.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as f:
            size = os.fstat(f.fileno()).st_size
            data = b"" if size > MAX_FILE else f.read(MAX_FILE + 1) or b""
    except FileNotFoundError:
        raise
    except OSError as e:
        raise HostError(f"open {path}: {errno_text(e)}") from e
    if max(size, len(data)) > MAX_FILE:
        raise SpecError(f"{path} has {max(size, len(data))} bytes, at most {MAX_FILE} are allowed")
    return data


def decode(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object in `data`; `name` is what errors call it. Raises SpecError and nothing else."""
    if data.startswith(_BOM):
        raise SpecError(f"{name} starts with a byte order mark: save it as UTF-8 without one")
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError) as e:
        raise SpecError(f"{name} is not JSON: {e}") from e
    except RecursionError as e:
        raise SpecError(f"{name} is nested too deeply") from e
    if not isinstance(document, dict):
        raise SpecError(f"{name} is not a JSON object")
    if _deeper(document, _MAX_DEPTH):
        raise SpecError(f"{name} is nested deeper than {_MAX_DEPTH} levels")
    return document


def _deeper(document: object, limit: int) -> bool:
    """Whether containers are nested more than `limit` deep, without recursion."""
    level: list[Any] = [document]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _convert(raw: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as e:
        reason, _, path = str(e).partition(" - at `")
        raise SpecError(reason, path.rstrip("`")) from e
