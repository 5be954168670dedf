"""`$root/<id>/state.json`: what is known of a container when no process is asked. CLI and supervisor read it, the
supervisor writes it (and `create`, before there is a supervisor).

Written whole to a temporary file and renamed, so that a reader sees the old or the new state, never a half. No fsync:
the root is on tmpfs and dies with the host. The folder is the lock: `reserve` is a mkdir. Standard library only, and
little of it: `katapy state` is this module.
"""

import os

from katapy import quickjson
from katapy.errors import AlreadyExists, HostError, KatapyError, NotFound, errno_text
from katapy.oci.ids import check_id

VERSION = 1
STATE_FILE = "state.json"
CONTROL_SOCKET = "control.sock"
HOOKS = "hooks.json"
"""Hooks that later verbs run (sandbox/hooks); not there if there are none."""
NETWORK = "network"
"""A file: what a killed supervisor leaves in the pod's network namespace (network/leftovers)."""
PROC_VIEW = "proc"
"""A directory: what the stand-in shows as its /proc (sandbox/proc_view)."""
MAX_STATE = 16 * 1024 * 1024
_CURE = "remove the container with delete --force"
ALIVE = frozenset(("creating", "created", "running", "paused"))
"""Statuses that are true only as long as the supervisor lives."""

_FIELDS: dict[str, tuple[type, ...]] = {
    "version": (int,),
    "id": (str,),
    "sandbox": (str,),
    "bundle": (str,),
    "rootfs": (str,),
    "created": (str,),
    "owner_uid": (int,),
    "annotations": (dict,),
    "status": (str,),
    "pid": (int,),
    "exit_status": (int, type(None)),
    "oci_version": (str,),
    "supervisor_pid": (int,),
    "supervisor_start": (int,),
    "cgroup": (str,),
}


class State:
    """One container. Immutable by agreement; `_replace` and `_asdict` are a NamedTuple's, without typing's cost.

    sandbox: id of the container whose supervisor serves this one. created: RFC 3339 with nanoseconds, UTC. pid: the
    stand-in's, 0 when stopped. supervisor_pid: until there is one, the pid of `create`. supervisor_start: field 22 of
    /proc/<supervisor_pid>/stat (clock ticks since boot). cgroup: by its name (cgroups.reopen).
    """

    __slots__ = tuple(_FIELDS)

    def __init__(
        self,
        *,
        version: int = VERSION,
        id: str,
        sandbox: str,
        bundle: str,
        rootfs: str = "",
        created: str = "",
        owner_uid: int = 0,
        annotations: dict[str, str] | None = None,
        status: str = "creating",
        pid: int = 0,
        exit_status: int | None = None,
        oci_version: str = "1.0.2",
        supervisor_pid: int = 0,
        supervisor_start: int = 0,
        cgroup: str = "",
    ) -> None:
        self.version = version
        self.id = id
        self.sandbox = sandbox
        self.bundle = bundle
        self.rootfs = rootfs
        self.created = created
        self.owner_uid = owner_uid
        self.annotations = annotations or {}
        self.status = status
        self.pid = pid
        self.exit_status = exit_status
        self.oci_version = oci_version
        self.supervisor_pid = supervisor_pid
        self.supervisor_start = supervisor_start
        self.cgroup = cgroup

    def _asdict(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in _FIELDS}

    def _replace(self, **changes: object) -> "State":
        return State(**{**self._asdict(), **changes})  # type: ignore[arg-type]  # as _FIELDS says

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self._asdict() == other._asdict()

    def __hash__(self) -> int:
        return hash((self.id, self.status, self.pid))

    def __repr__(self) -> str:
        return "State(" + ", ".join(f"{k}={v!r}" for k, v in self._asdict().items()) + ")"


def directory(root: str, container_id: str) -> str:
    """The container's folder. Raises UsageError for an id that can't be one."""
    return f"{root}/{check_id(container_id)}"


def control_path(root: str, sandbox_id: str) -> str:
    """Where the sandbox's supervisor listens. May be longer than a unix socket's address: endpoint.py knows how."""
    return f"{directory(root, sandbox_id)}/{CONTROL_SOCKET}"


def reserve(root: str, container_id: str) -> str:
    """Takes the id: makes root and the container's folder (0700) and returns it. Raises AlreadyExists, HostError."""
    path = directory(root, container_id)
    try:
        os.makedirs(root, 0o700, exist_ok=True)
        os.mkdir(path, 0o700)
    except FileExistsError as e:
        if os.path.isdir(root):
            raise AlreadyExists("container with given ID already exists") from e
        raise HostError(f"state root {root} is not a directory") from e
    except OSError as e:
        raise HostError(f"mkdir {path}: {errno_text(e)}") from e
    return path


def save(root: str, state: State) -> None:
    """Replaces the container's state.json. The folder must have been reserved. Raises HostError."""
    path = f"{directory(root, state.id)}/{STATE_FILE}"
    temporary = f"{path}.{os.getpid()}"
    data = quickjson.dumps(state._asdict()).encode()
    if len(data) > MAX_STATE:
        raise HostError(f"write {path}: {len(data)} bytes are more than {MAX_STATE}: are the annotations that long?")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as e:
        raise HostError(f"write {path}: {errno_text(e)}") from e


def load(root: str, container_id: str) -> State:
    """What state.json says. Raises NotFound, and KatapyError if the file is damaged."""
    path = f"{directory(root, container_id)}/{STATE_FILE}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as e:
        raise NotFound("container does not exist") from e
    except OSError as e:
        raise HostError(f"open {path}: {errno_text(e)}") from e
    try:
        data = os.read(fd, MAX_STATE)
    finally:
        os.close(fd)
    try:
        fields = quickjson.loads(data.decode())
    except ValueError as e:
        raise KatapyError(f"{path} is damaged ({e}): {_CURE}") from e
    if not isinstance(fields, dict) or fields.get("version") != VERSION:
        raise KatapyError(f"{path} is not of version {VERSION}: {_CURE}")
    wrong = [name for name, types in _FIELDS.items() if not isinstance(fields.get(name), types)]
    if wrong:
        raise KatapyError(f"{path} is damaged ({wrong[0]} is missing or of the wrong type): {_CURE}")
    return State(**{name: fields[name] for name in _FIELDS})


def list_ids(root: str) -> list[str]:
    """Ids that have a state.json, sorted. Empty if the root does not exist. Raises HostError."""
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        return []
    except OSError as e:
        raise HostError(f"read {root}: {errno_text(e)}") from e
    return sorted(name for name in names if os.path.exists(f"{root}/{name}/{STATE_FILE}"))


def start_time(pid: int) -> int:
    """Field 22 of /proc/<pid>/stat, clock ticks since boot; 0 if there is no such process or it is a zombie."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    try:
        stat = os.read(fd, 4096)
    except ProcessLookupError:
        return 0
    finally:
        os.close(fd)
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name may hold spaces and brackets
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def supervisor_alive(state: State) -> bool:
    return 0 < state.supervisor_start == start_time(state.supervisor_pid)


def live_status(root: str, container_id: str) -> State:
    """`load`, corrected: a container whose supervisor is dead is stopped, whatever the file says. Raises as `load`."""
    state = load(root, container_id)
    if state.status in ALIVE and not supervisor_alive(state):
        # It may have written its last state and ended between our two looks.
        state = load(root, container_id)
        if state.status in ALIVE:
            return state._replace(status="stopped", pid=0)
    return state


def remove(root: str, container_id: str) -> None:
    """Removes the container's folder and gives the id back. Not there: nothing to do. Raises HostError.

    Refuses while anything is mounted below it: what would be deleted is then not ours.
    """
    path = directory(root, container_id)
    mounted = _mount_below(os.path.realpath(path))
    if mounted:
        raise HostError(f"cannot remove {path}: {mounted} is still mounted")
    try:
        for _, folders, files, fd in os.fwalk(path, topdown=False):
            for name in files:
                os.unlink(name, dir_fd=fd)
            for name in folders:
                _remove_folder(name, fd)
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as e:
        raise HostError(f"remove {path}: {errno_text(e)}") from e


def _remove_folder(name: str, dir_fd: int) -> None:
    try:
        os.rmdir(name, dir_fd=dir_fd)
    except NotADirectoryError:  # a symbolic link to a folder
        os.unlink(name, dir_fd=dir_fd)


def _mount_below(path: str) -> str:
    with open("/proc/self/mountinfo", "rb") as mounts:
        for line in mounts:
            target = os.fsdecode(line.split(b" ", 5)[4]).replace("\\040", " ")
            if target == path or target.startswith(path + "/"):
                return target
    return ""
