"""The leak check sees what it is told to look for: each deliberate leak is named. No root but where said."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from framework import leaks, processes
from framework.leaks import Scope
from framework.runtime import closing_popen
from framework.wait import wait_for

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def scope(tmp_path: Path) -> Scope:
    (tmp_path / "root").mkdir()
    return Scope(f"leak{os.getpid()}", tmp_path, tmp_path.parent / f"{tmp_path.name}-bundles")


@contextmanager
def a_child(_: Scope) -> Iterator[None]:
    with closing_popen(subprocess.Popen(["sleep", "60"])) as child:
        wait_for("it has its command line", lambda: _command(child.pid) == "sleep 60", 60)
        yield


def _command(pid: int) -> str:
    """The kernel tells the parent that a program was executed before it shows the program's arguments."""
    found = processes.find(pid)
    return found.command if found else ""


@contextmanager
def an_orphan_with_the_token(scope: Scope) -> Iterator[None]:
    script = f"exec -a {scope.token} sleep 60 >&- 2>&- & echo $!"
    pid = int(subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, check=True).stdout)
    try:
        yield
    finally:
        os.kill(pid, 9)


@contextmanager
def a_state_directory(scope: Scope) -> Iterator[None]:
    path = scope.root / "root/c1"
    path.mkdir()
    yield
    path.rmdir()


@contextmanager
def shared_memory(scope: Scope) -> Iterator[None]:
    path = Path("/dev/shm") / scope.token
    path.touch()
    yield
    path.unlink()


@contextmanager
def a_socket(scope: Scope) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{scope.token}")
        listener.listen()
        yield


@contextmanager
def a_cgroup(scope: Scope) -> Iterator[None]:
    path = next(p for p in leaks.CGROUPS.iterdir() if (p / "cgroup.procs").exists()) / scope.token
    path.mkdir()
    yield
    path.rmdir()


@contextmanager
def a_mount(scope: Scope) -> Iterator[None]:
    target = scope.root / scope.token
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", scope.token, target], check=True)
    yield
    subprocess.run(["umount", target], check=True)


@contextmanager
def a_mount_on_a_bundle(scope: Scope) -> Iterator[None]:
    target = scope.bundles / "rootfs"
    target.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", target], check=True)
    yield
    subprocess.run(["umount", target], check=True)
    target.rmdir()


@contextmanager
def a_namespace(scope: Scope) -> Iterator[None]:
    subprocess.run(["ip", "netns", "add", scope.token], check=True)
    yield
    subprocess.run(["ip", "netns", "delete", scope.token], check=True)


@contextmanager
def a_tap(scope: Scope) -> Iterator[None]:
    subprocess.run(["ip", "tuntap", "add", scope.token, "mode", "tap"], check=True)
    yield
    subprocess.run(["ip", "link", "delete", scope.token], check=True)


Leak = Callable[[Scope], AbstractContextManager[None]]


@pytest.mark.parametrize(
    "leak, named",
    [
        (a_child, "process: .* sleep 60"),
        (an_orphan_with_the_token, "process: .*leak"),
        (a_state_directory, "file: .*root/c1"),
        (shared_memory, "file: /dev/shm/leak"),
        (a_socket, "unix socket: @leak"),
        pytest.param(a_cgroup, "cgroup: /sys/fs/cgroup/.*leak", marks=needs_root),
        pytest.param(a_mount, "mount: .*leak", marks=needs_root),
        pytest.param(a_mount_on_a_bundle, "mount: .*-bundles/rootfs", marks=needs_root),
        pytest.param(a_namespace, "network namespace: leak", marks=needs_root),
        pytest.param(a_tap, "tap: leak", marks=needs_root),
    ],
)
def test_a_leak_is_named(scope: Scope, monkeypatch: pytest.MonkeyPatch, leak: Leak, named: str) -> None:
    before = leaks.take(scope)
    monkeypatch.setattr(leaks, "_GRACE_S", 0.0)
    with leak(scope), pytest.raises(AssertionError, match=named):
        leaks.check(scope, before)
    monkeypatch.undo()
    leaks.check(scope, before)


def test_what_was_there_before_is_no_leak(scope: Scope) -> None:
    with a_state_directory(scope):
        leaks.check(scope, leaks.take(scope))
