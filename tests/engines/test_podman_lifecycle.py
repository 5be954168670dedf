"""`podman` from run to rm: attach, stop, wait, start again. The tests of a container come in the order of its life."""

import subprocess
from pathlib import Path

import pytest
from framework import processes
from framework.podman import IMAGE, Box, Podman
from framework.wait import PATIENCE

_OBEDIENT = """
trap '[ -e /deaf ] || { echo bye; exit 9; }' TERM
echo started; while :; do sleep 1 & wait; done
"""


@pytest.fixture(scope="module")
def stopped(podman: Podman) -> Box:
    """A container that has ended with 9 when SIGTERM came."""
    box = podman.detached("--name=stopped", IMAGE, "sh", "-c", _OBEDIENT)
    box.wait_logs("started\n")
    box.pid = int(box.inspect("State.Pid"))
    assert box("stop", "--time=300").ok().seconds < 150 * PATIENCE
    return box


def test_stop_ends_it_by_sigterm(stopped: Box) -> None:
    assert stopped.inspect("State.ExitCode") == "9"
    assert stopped.logs() == "started\nbye\n"


def test_what_has_stopped_has_no_process(stopped: Box) -> None:
    assert stopped.inspect("State.Running") == "false"
    assert stopped.inspect("State.Status") == "exited"
    assert not processes.alive(stopped.pid)


def test_wait_tells_the_status(stopped: Box) -> None:
    assert stopped("wait").ok().out == "9\n"


def test_exec_in_what_has_stopped_is_refused(stopped: Box) -> None:
    done = stopped.exec("true")
    assert done.status == 255
    assert "running" in done.err


def test_cp_both_ways_when_stopped(stopped: Box, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("from outside\n")
    stopped.podman("cp", source, f"{stopped.id}:/tmp/source").ok()
    stopped.podman("cp", f"{stopped.id}:/tmp/source", tmp_path / "back").ok()
    assert (tmp_path / "back").read_text() == "from outside\n"


@pytest.fixture(scope="module")
def started_again(stopped: Box, tmp_path_factory: pytest.TempPathFactory) -> Box:
    source = tmp_path_factory.mktemp("again") / "kept"
    source.write_text("kept\n")
    stopped.podman("cp", source, f"{stopped.id}:/tmp/kept").ok()
    stopped("start", timeout=150 * PATIENCE).ok()
    return stopped


def test_started_again_it_runs(started_again: Box) -> None:
    started_again.wait_logs("started\nbye\nstarted\n")
    assert started_again.inspect("State.Running") == "true"
    assert processes.alive(int(started_again.inspect("State.Pid")))


def test_started_again_it_has_its_files(started_again: Box) -> None:
    assert started_again.sh("cat /tmp/kept") == "kept"


def test_stop_kills_what_does_not_obey(started_again: Box) -> None:
    started_again.sh("touch /deaf")
    assert started_again("stop", "--time=1").ok().seconds < 150 * PATIENCE
    assert started_again.inspect("State.ExitCode") == "137"


def test_rm_removes_it(started_again: Box) -> None:
    started_again("rm").ok()
    assert started_again("container", "exists").status == 1


def test_attach(podman: Podman) -> None:
    script = 'while read line; do echo "got $line"; done; exit 7'
    box = podman.detached("-i", IMAGE, "sh", "-c", script)
    process = podman.popen("attach", box.id, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got one\n"
        process.stdin.close()
        process.wait(30 * PATIENCE)
    assert box("wait").ok().out == "7\n"
    assert box.logs() == "got one\n"
    box("rm").ok()
