"""create, start, kill, delete, pause and resume; and what each verb answers in each status that does not fit."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from framework import processes
from framework.fixtures import BundleMaker, runtime_below
from framework.leaks import Scope
from framework.runtime import Container, Runtime
from framework.wait import PATIENCE, wait_for

STATUSES = ("created", "running", "paused", "stopped")
STEPS: dict[str, list[tuple[str, ...]]] = {
    "running": [("start",)],
    "paused": [("pause",)],
    "stopped": [("resume",), ("kill", "KILL")],
}
Reach = Callable[[str], Container]


@pytest.fixture(scope="module")
def module_runtime(runtime_path: Path, scope: Scope, no_leaks_of_the_module: None) -> Iterator[Runtime]:
    """Its root is longer than the address of a unix socket may be."""
    yield from runtime_below(runtime_path, scope, "long" * 28)


@pytest.fixture(scope="module")
def reach(module_runtime: Runtime, module_bundle: BundleMaker) -> Reach:
    """Takes the one container of this module to a status; it never goes back."""
    container = module_runtime.create(module_bundle())

    def go_to(status: str) -> Container:
        while (now := container.status) != status:
            following = STATUSES[STATUSES.index(now) + 1]
            for verb, *rest in STEPS[following]:
                container(verb, *rest).ok()
            container.wait_status(following)
        return container

    return go_to


WRONG = [
    ("created", ("resume",), "container not paused"),
    ("running", ("start",), "cannot start an already running container"),
    ("running", ("delete",), "cannot delete container {id} that is not stopped: running"),
    ("running", ("resume",), "container not paused"),
    ("running", ("kill", "FOO"), 'unknown signal "FOO"'),
    ("paused", ("start",), "cannot start a container in the paused state"),
    ("paused", ("pause",), "container not running"),
    ("paused", ("delete",), "cannot delete container {id} that is not stopped: paused"),
    ("paused", ("exec", "true"), "cannot exec in a paused container (use --ignore-paused to override)"),
    ("stopped", ("start",), "cannot start a container that has stopped"),
    ("stopped", ("kill", "TERM"), "container not running"),
    ("stopped", ("pause",), "container not running"),
    ("stopped", ("resume",), "container not paused"),
    ("stopped", ("exec", "true"), "cannot exec in a stopped container"),
    ("stopped", ("update", "--pids-limit", "5"), "container not running"),
    ("stopped", ("events",), "container with id {id} is not running"),
]


def test_before_its_start_it_can_be_paused_and_resumed(reach: Reach) -> None:
    container = reach("created")
    container("pause").ok()
    assert container.status == "paused"
    assert "cannot start a container in the paused state" in container("start").err
    container("resume").ok()
    assert container.status == "created"


@pytest.mark.parametrize("status, call, message", WRONG, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_a_verb_that_does_not_fit_the_status(reach: Reach, status: str, call: tuple[str, ...], message: str) -> None:
    container = reach(status)
    done = container(call[0], *call[1:])
    assert done.status == (255 if call[0] == "exec" else 1)
    assert message.format(id=container.id) in done.err.replace('\\"', '"')
    assert container.status == status


def test_the_id_is_taken_until_it_is_deleted(reach: Reach) -> None:
    container = reach("stopped")
    _, again = container.runtime.try_create(container.bundle, id=container.id)
    assert again.status == 1
    assert "container with given ID already exists" in again.err


def test_stopped_it_has_no_processes(reach: Reach) -> None:
    container = reach("stopped")
    assert len(container("ps").ok().out.splitlines()) == 1
    assert container.state()["pid"] == 0
    assert not processes.alive(container.pid)


@pytest.mark.parametrize("verb", ["state", "start", "kill", "delete", "pause", "resume", "ps", "events", "update"])
def test_a_container_that_is_not_there(module_runtime: Runtime, verb: str) -> None:
    done = module_runtime(verb, "nosuch")
    assert (done.status, done.out) == (1, "")
    assert "container does not exist" in done.err


def test_delete_by_force_of_what_is_not_there_is_silent(module_runtime: Runtime) -> None:
    done = module_runtime("delete", "--force", "nosuch")
    assert (done.status, done.out, done.err) == (0, "", "")


def test_without_a_process_it_is_created_but_not_started(runtime: Runtime, bundle: BundleMaker) -> None:
    made = bundle()
    del made.spec["process"]
    container = runtime.create(made.save())
    done = container("start")
    assert (done.status, "process property must not be empty" in done.err) == (1, True)
    assert container.status == "created"
    container("delete", "--force").ok()


def test_from_create_to_delete(runtime: Runtime, bundle: BundleMaker) -> None:
    made = bundle("sh", "-c", "echo started; exec sleep 1000", annotations={"a.b": "c"})
    container = runtime.create(made)
    assert (container.stdout.read_text(), container.stderr.read_text()) == ("", "")
    state = container.state()
    assert state["ociVersion"].startswith("1.0.2")
    assert (state["id"], state["status"], state["pid"]) == (container.id, "created", container.pid)
    assert (state["bundle"], state["rootfs"]) == (str(made.path), str(made.rootfs))
    assert state["annotations"]["a.b"] == "c"
    assert container.pid_file.read_text() == str(container.pid)
    made.spec["process"]["args"] = ["echo", "changed after create"]
    made.save()
    container.start()
    wait_for("it has started", lambda: container.stdout.read_text() == "started\n")
    assert container.status == "running"
    assert container.state()["pid"] == container.pid
    container.kill("TERM")  # to PID 1, which does not handle it
    assert container.status == "running"
    container.kill("KILL")
    assert container.wait() == 137
    container.wait_status("stopped")
    container.delete()
    assert "does not exist" in container("state").err


def test_a_created_container_can_be_deleted(runtime: Runtime, bundle: BundleMaker) -> None:
    container = runtime.create(bundle())
    pid = container.pid
    container.delete()
    assert not processes.alive(pid)
    assert runtime.ids() == []


def test_a_running_one_can_be_deleted_by_force(runtime: Runtime, bundle: BundleMaker) -> None:
    container = runtime.start(bundle())
    pid = container.pid
    container.delete("--force")
    assert not processes.alive(pid)
    assert runtime.ids() == []


def test_what_it_wrote_is_complete_when_it_has_stopped(runtime: Runtime, bundle: BundleMaker) -> None:
    container = runtime.start(bundle("sh", "-c", "seq 1 20000; exit 9"))
    assert container.wait(60) == 9
    lines = container.stdout.read_text().split()
    assert lines == [str(n) for n in range(1, 20001)]
    container.wait_status("stopped")
    container.delete()


def test_all_processes_can_be_signalled(runtime: Runtime, bundle: BundleMaker) -> None:
    script = (
        "for i in 1 2; do sh -c 'trap \"echo child; exit\" USR1; echo up; while :; do sleep 0.1; done' & done; "
        "trap : USR1; "
    )
    container = runtime.start(bundle("sh", "-c", f"{script} echo ready; wait; wait; wait; exit 3"))
    wait_for("it is ready", lambda: sorted(container.stdout.read_text().split()) == ["ready", "up", "up"])
    container.runtime("kill", "--all", container.id, "USR1").ok()
    assert container.wait() == 3
    assert container.stdout.read_text().count("child") == 2
    container.wait_status("stopped")
    container.delete()


@pytest.mark.guest
def test_create_that_is_killed_leaves_nothing(runtime: Runtime, bundle: BundleMaker) -> None:
    made = bundle()
    id = runtime.new_id()
    process = runtime.popen("create", "--bundle", made.path, id)
    wait_for("the machine is being started", lambda: any("qemu" in p.command for p in _ours(id)))
    process.kill()
    process.wait()
    wait_for("what it had started is gone", lambda: not list(_ours(id)))
    runtime("delete", "--force", id).ok()
    assert runtime.ids() == []


def _ours(id: str) -> list[processes.Process]:
    return [p for p in processes.descendants(os.getpid()) if id in p.command]


@pytest.mark.guest  # runc has a race here
def test_of_two_creates_with_one_id_one_wins(runtime: Runtime, bundle: BundleMaker) -> None:
    id = runtime.new_id()
    bundles = [bundle(), bundle()]
    started = []
    for made in bundles:
        with (made.path / "err").open("wb") as err:
            started.append(runtime.popen("create", "--bundle", made.path, id, stderr=err))
    statuses = [process.wait(150 * PATIENCE) for process in started]
    assert sorted(statuses) == [0, 1]
    loser = bundles[statuses.index(1)]
    assert "container with given ID already exists" in (loser.path / "err").read_text()
    runtime("kill", id, str(int(signal.SIGKILL))).ok()
