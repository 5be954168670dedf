"""Whatever dies or freezes is noticed, told as a failure, and leaves nothing. Each test boots a machine of its own."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from framework import processes
from framework.bundle import Bundle, privileged
from framework.runtime import Container, Runtime, owner_of
from framework.wait import wait_for

BundleMaker = Callable[..., Bundle]
NOTICED_S = 60.0  # two seconds on a machine with nothing else to do: a deadline here, no measurement
NEVER_A_HANG_S = 60.0
KILLED = 137
ASKED_OF_IT = [
    *(("kill", "TERM"), ("exec", "true"), ("pause",), ("ps",), ("events", "--stats"), ("events",)),
    ("update", "--pids-limit", "5"),
]
"""What its supervisor must answer for a running container."""


def _gone(pid: int) -> Callable[[], bool]:
    return lambda: not processes.alive(pid)


def _is_stopped_as_a_failure(container: Container, deadline_s: float = NOTICED_S) -> None:
    container.wait_status("stopped", deadline_s)
    assert container.state()["pid"] == 0
    assert container.wait() == KILLED


def test_qemu_is_killed(runtime: Runtime, bundle: BundleMaker) -> None:
    container = runtime.start(bundle())
    os.kill(owner_of(container, "qemu-system"), signal.SIGKILL)
    _is_stopped_as_a_failure(container)
    assert container("kill").err.endswith('msg="container not running"\n')
    container.delete()


def test_the_supervisor_is_killed(runtime: Runtime, bundle: BundleMaker) -> None:
    container = runtime.start(bundle())
    qemu, supervisor = owner_of(container, "qemu-system"), owner_of(container, "supervisor")
    os.kill(supervisor, signal.SIGKILL)
    wait_for("QEMU to die with its supervisor", _gone(qemu), NOTICED_S)
    _is_stopped_as_a_failure(container)
    assert container("exec", "true").status == 255
    container.delete()


def test_virtiofsd_is_killed(runtime: Runtime, bundle: BundleMaker) -> None:
    container = runtime.start(bundle())
    daemons = [p.pid for p in processes.descendants(owner_of(container, "supervisor")) if "virtiofsd" in p.command]
    os.kill(max(daemons), signal.SIGKILL)
    _is_stopped_as_a_failure(container)
    container.delete()


def test_the_stand_in_is_killed(runtime: Runtime, bundle: BundleMaker) -> None:
    """The container goes with the pid that stands for it."""
    container = runtime.start(bundle())
    qemu = owner_of(container, "qemu-system")
    os.kill(container.pid, signal.SIGKILL)
    wait_for("the machine to end", _gone(qemu), NEVER_A_HANG_S)
    container.wait_status("stopped")
    container.delete()


@pytest.mark.parametrize("who", ["supervisor", "qemu-system"])
def test_frozen_it_is_told_at_once_and_can_be_deleted(runtime: Runtime, bundle: BundleMaker, who: str) -> None:
    container = runtime.start(bundle())
    frozen = owner_of(container, who)
    os.kill(frozen, signal.SIGSTOP)
    for verb in ASKED_OF_IT:
        result = container(*verb, timeout=NEVER_A_HANG_S)
        assert (result.status != 0, "frozen" in result.err) == (True, True), result
    assert runtime("list", "--quiet", timeout=NEVER_A_HANG_S).ok().out == f"{container.id}\n"
    container("state", timeout=NEVER_A_HANG_S).ok()
    container.delete("--force")
    assert not processes.alive(frozen)


def test_what_was_frozen_goes_on(runtime: Runtime, bundle: BundleMaker) -> None:
    container = runtime.start(bundle())
    qemu = owner_of(container, "qemu-system")
    os.kill(qemu, signal.SIGSTOP)
    os.kill(qemu, signal.SIGCONT)
    assert container.exec("echo", "alive").ok().out == "alive\n"


@pytest.mark.guest
def test_the_guests_kernel_panics(runtime: Runtime, bundle: BundleMaker) -> None:
    container = runtime.start(bundle(edit=privileged))
    container.exec("sh", "-c", "echo c > /proc/sysrq-trigger")
    _is_stopped_as_a_failure(container, NEVER_A_HANG_S)
    container.delete()


def test_a_boot_that_never_ends_is_given_up(
    runtime: Runtime, bundle: BundleMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what the guest said last; nothing is left."""
    (tmp_path / "katapy.yaml").write_text("timeouts: {boot_s: 1}\n")
    monkeypatch.setenv("KATAPY_CONFIG", str(tmp_path / "katapy.yaml"))
    monkeypatch.setenv("KATAPY_FACTORY", "off")
    _, result = runtime.try_create(bundle())
    assert result.status == 1
    assert "did not come up" in result.err
    assert result.err.count("\n") == 1
    assert runtime.ids() == []
    assert result.seconds < NEVER_A_HANG_S
