"""OCI hooks of the host. Run by the CLI, which is one thread and has the caller's environment; never by the supervisor.

| kind | when | where |
|---|---|---|
| prestart, createRuntime | the stand-in has its namespaces, the machine boots, nothing of the container exists | host |
| createContainer | after those | host's files, the stand-in's mount, network, UTS and IPC namespaces |
| startContainer | in `start`, before the process | in the guest, by crun |
| poststart | in `start`, after the process was started | host |
| poststop | in `delete`, after everything is gone | host |

They run before crun sees the container, so that what they put into the root file system is there when it looks for the
process's executable: files, and mounts too, if they are made in the stand-in's mount namespace (which is the
supervisor's until the stand-in is released). State on stdin as the runtime-spec says; a hook without `env` inherits the
caller's. Of poststart and poststop a copy is kept in the state directory: config.json may have changed since.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from katapy.errors import HostError, SpecError, errno_text
from katapy.linux import namespaces
from katapy.oci.state import state_document
from katapy.sandbox.store import HOOKS, State

if TYPE_CHECKING:
    import subprocess

Hook = Mapping[str, Any]
Hooks = Mapping[str, Sequence[Hook]]

CREATE_KINDS = ("prestart", "createRuntime", "createContainer")
LATER_KINDS = ("poststart", "poststop")
_MAX_OUTPUT = 4096


class Place(NamedTuple):
    """Where createContainer hooks run: the stand-in whose namespaces they enter, and their working directory."""

    standin_pid: int
    rootfs: str


def document(state: State, status: str, pid: int) -> dict[str, object]:
    """What hooks read from stdin. `pid`: the stand-in's, 0 when stopped."""
    return state_document(
        oci_version=state.oci_version,
        id=state.id,
        pid=pid,
        status=status,
        bundle=state.bundle,
        annotations=state.annotations,
    )


def run(kind: str, hooks: Hooks, state: Mapping[str, Any], place: Place | None = None) -> None:
    """Runs the hooks of one kind in order; the first that fails ends it. Raises HostError."""
    for index, hook in enumerate(hooks.get(kind) or ()):
        _run_one(kind, index, hook, state, place if kind == "createContainer" else None)


def run_all(kind: str, hooks: Hooks, state: Mapping[str, Any], warn: Callable[[str], None]) -> None:
    """Runs every hook of one kind; failures are handed to `warn` and the rest still run (poststop)."""
    for index, hook in enumerate(hooks.get(kind) or ()):
        try:
            _run_one(kind, index, hook, state, None)
        except HostError as e:
            warn(str(e))


def _run_one(kind: str, index: int, hook: Hook, state: Mapping[str, Any], place: Place | None) -> None:
    import subprocess  # 4 ms that containers without hooks need not pay

    path = hook["path"]
    if not os.path.isabs(path):
        raise SpecError(f"path {path!r} is not absolute", f"$.hooks.{kind}[{index}].path")
    name = f"error running {kind} hook #{index}"
    try:
        process = subprocess.Popen(
            hook.get("args") or [path],
            executable=path,
            env=None if hook.get("env") is None else dict(e.partition("=")[::2] for e in hook["env"]),
            cwd=place.rootfs if place else state["bundle"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_enter(place) if place else None,
        )
    except OSError as e:
        raise HostError(f"{name}: {path}: {errno_text(e)}") from e
    _finish(process, name, hook.get("timeout"), json.dumps(state).encode())


def _finish(process: "subprocess.Popen[bytes]", name: str, timeout_s: float | None, state: bytes) -> None:
    from subprocess import TimeoutExpired

    try:
        _, stderr = process.communicate(state, timeout_s)
    except TimeoutExpired as e:
        os.killpg(process.pid, 9)
        process.communicate()
        raise HostError(f"{name}: no end within its timeout of {timeout_s:g} s") from e
    if process.returncode != 0:
        said = stderr[-_MAX_OUTPUT:].decode(errors="replace").strip().replace("\n", " ")
        how = f"exit status {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        raise HostError(f"{name}: {how}, stdout: , stderr: {said}")


def _enter(place: Place) -> Callable[[], None]:
    def enter() -> None:
        for kind in ("network", "uts", "ipc", "mount"):
            namespaces.join(kind, f"/proc/{place.standin_pid}/ns/{namespaces.entry(kind)}")
        os.chdir(place.rootfs)  # entering a mount namespace leads to its root

    return enter


def keep(directory: str, hooks: Hooks) -> None:
    """Saves what later verbs need; nothing if there is nothing."""
    later = {kind: list(hooks[kind]) for kind in LATER_KINDS if hooks.get(kind)}
    if later:
        with open(f"{directory}/{HOOKS}", "w", encoding="utf-8") as f:
            json.dump(later, f)


def kept(directory: str) -> Hooks:
    """What `keep` saved, or nothing."""
    try:
        with open(f"{directory}/{HOOKS}", encoding="utf-8") as f:
            found: Hooks = json.load(f)
    except FileNotFoundError:
        return {}
    return found
