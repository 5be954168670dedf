"""Hooks of all six kinds: when, where, with what on stdin, and what a failure does."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from framework.bundle import Bundle, Spec
from framework.runtime import Runtime

BundleMaker = Callable[..., Bundle]
HOST_KINDS = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")


def _hook(log: Path, kind: str, script: str = "") -> Spec:
    """A hook of the host that notes its kind, the state it got, its network namespace and working directory."""
    note = f"cat > {log}/{kind}.state; readlink /proc/self/ns/net > {log}/{kind}.net; pwd > {log}/{kind}.cwd"
    return {"path": "/bin/sh", "args": ["sh", "-c", f"echo {kind} >> {log}/order; {note}; {script}"], "env": []}


def _read(log: Path, name: str) -> str:
    return (log / name).read_text().strip()


def test_all_kinds_run_in_order_with_their_state_in_their_place(
    runtime: Runtime, bundle: BundleMaker, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.mkdir()
    hooks: dict[str, Any] = {kind: [_hook(log, kind)] for kind in HOST_KINDS}
    # In the guest, by the guest's kernel, with the container's own files.
    script = "cat > /started.state; uname -n > /started.host"
    hooks["startContainer"] = [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]
    made = bundle("sh", "-c", "ls /started.state && echo ran", hooks=hooks, annotations={"a": "b"})

    container = runtime.create(made)
    assert _read(log, "order").split() == ["prestart", "createRuntime", "createContainer"]
    assert not (made.rootfs / "started.state").exists()
    pid = container.pid
    container.start()
    container.wait_status("stopped")
    assert container.stdout.read_text() == "/started.state\nran\n"
    container.delete()

    assert _read(log, "order").split() == list(HOST_KINDS)
    statuses = {}
    for kind in HOST_KINDS:
        state = json.loads(_read(log, f"{kind}.state"))
        statuses[kind] = state["status"]
        assert state["id"] == container.id
        assert state["bundle"] == str(made.path)
        assert state["annotations"] == {"a": "b"}
        assert state["pid"] == (0 if kind == "poststop" else pid)
    assert statuses == {**dict.fromkeys(HOST_KINDS[:3], "created"), "poststart": "running", "poststop": "stopped"}
    ours = os.readlink("/proc/self/ns/net")
    assert [kind for kind in HOST_KINDS if _read(log, f"{kind}.net") != ours] == ["createContainer"]
    assert _read(log, "createContainer.cwd") == str(made.rootfs)
    assert (made.rootfs / "started.host").read_text() == "box\n"


def test_what_hooks_mount_in_the_containers_namespace_is_in_the_container_and_nowhere_else(
    runtime: Runtime, bundle: BundleMaker, tmp_path: Path
) -> None:
    made = bundle("cat", "/mnt/one", "/mnt/two")
    (made.rootfs / "mnt").mkdir()
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"{name}\n")
        (made.rootfs / "mnt" / name).touch()
    find = "pid=$(sed 's/.*\"pid\": \\([0-9]*\\).*/\\1/')"
    one = f"{find}; nsenter -m -t $pid mount --bind {tmp_path}/one {made.rootfs}/mnt/one"
    two = f"mount --bind {tmp_path}/two ./mnt/two"
    made.spec["hooks"] = {
        "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", one]}],
        "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", two]}],
    }
    result = runtime.run(made.save()).ok()
    assert result.out == "one\ntwo\n"
    assert (made.rootfs / "mnt/one").read_text() == ""


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_before_the_container_exists_undoes_it(
    runtime: Runtime, bundle: BundleMaker, tmp_path: Path, kind: str
) -> None:
    hooks = {kind: [_hook(tmp_path, kind, "echo no such luck >&2; exit 3")], "poststop": [_hook(tmp_path, "poststop")]}
    _, result = runtime.try_create(bundle(hooks=hooks))
    assert result.status == 1
    assert f"error running {kind} hook #0: exit status 3" in result.err
    assert "no such luck" in result.err
    assert runtime.ids() == []
    assert _read(tmp_path, "order").split() == [kind, "poststop"]


def test_a_hook_that_takes_too_long_is_ended(runtime: Runtime, bundle: BundleMaker) -> None:
    hook = {"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}
    _, result = runtime.try_create(bundle(hooks={"prestart": [hook]}))
    assert result.status == 1
    assert "no end within its timeout of 1 s" in result.err


def test_a_poststart_hook_that_fails_is_a_warning(runtime: Runtime, bundle: BundleMaker, tmp_path: Path) -> None:
    """runtime-spec 1.2: log a warning and continue."""
    container = runtime.create(bundle(hooks={"poststart": [_hook(tmp_path, "poststart", "exit 3")]}))
    result = container("start").ok()
    assert "level=warning" in result.err
    assert "error running poststart hook #0: exit status 3" in result.err
    assert container.status == "running"
