"""`podman run` in the foreground: output, statuses, terminal, and what ends it. Every container is a boot."""

from pathlib import Path

import pytest
from framework.loop import loop_device
from framework.podman import IMAGE, Box, Podman
from framework.runtime import Result
from framework.wait import PATIENCE


@pytest.fixture(scope="module")
def once(podman: Podman) -> Result:
    """What `run --rm` with many flags has left."""
    script = 'read line; echo "$line"; id; pwd; echo "$A"; hostname; echo trouble >&2; exit 5'
    flags = ("--rm", "-i", "--name=once", "--user=8:12", "--workdir=/tmp", "--env=A=x y", "--hostname=bob")
    return podman.run(*flags, IMAGE, "sh", "-c", script, input=b"typed\n")


def test_the_status_is_the_containers(once: Result) -> None:
    assert once.status == 5


def test_errors_come_apart_from_output(once: Result) -> None:
    assert once.err == "trouble\n"


def test_stdin_reaches_it(once: Result) -> None:
    assert once.out.splitlines()[0] == "typed"


def test_user_workdir_env_and_hostname(once: Result) -> None:
    assert once.out.splitlines()[1:] == ["uid=8(mail) gid=12(mail) groups=12(mail)", "/tmp", "x y", "bob"]


def test_rm_forgets_it(podman: Podman, once: Result) -> None:
    assert "once" not in podman("ps", "--all", "--format", "{{.Names}}").ok().out


def test_in_a_terminal(podman: Podman) -> None:
    process, terminal = podman.terminal("run", *podman.create_flags(), "--rm", "-it", IMAGE, "sh")
    with terminal:
        terminal.send("tty; stty size\n")
        terminal.expect(r"/dev/(pts/\d+|console)\r\n24 80\r\n", 60)
        terminal.send("exit 4\n")
        assert process.wait(30 * PATIENCE) == 4


@pytest.mark.parametrize("command, status", [("/nosuch", 127), ("/etc/passwd", 126)])
def test_what_cannot_be_executed(podman: Podman, command: str, status: int) -> None:
    done = podman.run("--rm", IMAGE, command)
    assert done.status == status
    assert command in done.err
    assert done.err.count("\n") == 1


def test_killed_for_memory_is_137_and_told(podman: Podman) -> None:
    """By a file, or with Podman 5 and cgroup v2 by the kernel: conmon watches the host's cgroup for it."""
    assert podman.run("--name=hungry", "--memory=64m", IMAGE, "tail", "/dev/zero").status == 137
    box = Box(podman, "hungry")
    assert box.inspect("State.OOMKilled") == "true"
    box("rm").ok()


def test_a_volume_that_is_missing_is_one_line(podman: Podman, tmp_path: Path) -> None:
    done = podman.run("--rm", f"--volume={tmp_path}/nosuch:/x", IMAGE, "true")
    assert done.status == 125
    assert "nosuch" in done.err


def test_a_block_device(podman: Podman, tmp_path: Path) -> None:
    """What the container has written without a sync is there when it has ended, and with it its machine."""
    with loop_device(tmp_path / "disk", 1 << 20) as device:
        script = "echo by-podman | dd of=/dev/xvda bs=512 seek=1 conv=notrunc,sync 2>&1"
        podman.run("--rm", f"--device={device.path}:/dev/xvda", IMAGE, "sh", "-c", script).ok()
        assert device.read(512, 9) == b"by-podman"


@pytest.mark.guest
def test_privileged_is_not_all_disks_of_the_host(podman: Podman, tmp_path: Path) -> None:
    with loop_device(tmp_path / "disk", 1 << 20) as device:
        script = f"test -b {device.path} && cat /sys/block/*/serial; head -c 1 {device.path}"
        done = podman.run("--rm", "--privileged", IMAGE, "sh", "-c", script)
    assert done.status != 0
    assert "disk-" not in done.out


def test_two_at_once(podman: Podman) -> None:
    script = 'trap "echo usr1" USR1; echo ready; while :; do sleep 1 & wait; done'
    flags = podman.create_flags()
    runs = [podman.popen("run", "-d", *flags, f"--name=n{n}", IMAGE, "sh", "-c", script, stdout=-1) for n in (1, 2)]
    first, second = (Box(podman, run.communicate(timeout=200 * PATIENCE)[0].decode().strip()) for run in runs)
    assert (first.wait_logs("ready\n"), second.wait_logs("ready\n")) == ("ready\n", "ready\n")
    first("kill", "--signal=USR1").ok()
    first.wait_logs("ready\nusr1\n")
    first("kill").ok()
    assert first("wait").ok().out == "137\n"
    assert second.inspect("State.Running") == "true"
    assert second.sh("hostname") == second.id[:12]
    first("rm").ok()
    second("rm", "--force", "--time=0").ok()
    assert podman("ps", "--all", "--quiet").ok().out == ""
