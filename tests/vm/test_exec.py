"""`exec` in a container that runs: all flags, statuses, stdio. One machine for all of it."""

import hashlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from framework import processes
from framework.bundle import PATH, default_process
from framework.runtime import Container, owner_of
from framework.terminal import ConsoleSocket
from framework.wait import PATIENCE, wait_for


@pytest.mark.parametrize("status", [0, 1, 7, 127, 255])
def test_the_status_is_the_processs(running: Container, status: int) -> None:
    assert running.exec("sh", "-c", f"exit {status}").status == status


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV"])
def test_death_by_signal_is_128_and_its_number(running: Container, name: str) -> None:
    assert running.exec("sh", "-c", f"kill -{name} $$").status == 128 + getattr(signal, f"SIG{name}")


def test_output_and_errors_come_apart(running: Container) -> None:
    done = running.exec("sh", "-c", "echo out; echo err >&2")
    assert (done.out, done.err) == ("out\n", "err\n")


def test_output_without_a_newline_is_complete(running: Container) -> None:
    assert running.exec("printf", "no newline").out == "no newline"


def test_stdin_reaches_it_and_ends(running: Container) -> None:
    data = os.urandom(3 * 1024 * 1024)
    done = running.exec("sha256sum", input=data)
    assert done.ok().out.split()[0] == hashlib.sha256(data).hexdigest()


def test_data_survives_the_way_in_and_out(running: Container) -> None:
    data = os.urandom(4 * 1024 * 1024)
    assert running.exec("cat", input=data).ok().stdout == data


def test_a_process_that_leaves_its_stdin_unread_ends_all_the_same(running: Container) -> None:
    assert running.exec("true", input=bytes(8 * 1024 * 1024)).status == 0


@pytest.mark.parametrize(
    "command, words",
    [
        (["/nosuch"], "no such file or directory"),
        (["nosuch"], r"executable file .*not found in \$path"),
        (["/etc/passwd"], "permission denied|operation not permitted"),
    ],
)
def test_what_cannot_be_executed_is_status_255_in_words_that_podman_knows(
    running: Container, command: list[str], words: str
) -> None:
    done = running.exec(*command)
    assert done.status == 255
    assert re.search(words, done.err.lower())
    assert command[0] in done.err


def test_lines_of_a_terminal_in_a_pipe_end_with_a_newline_alone(running: Container) -> None:
    """With a terminal as stderr: without any it is refused, as runc refuses it."""
    script = ("sh", "-c", "tty; printf 'a\\rb\\n'")
    assert "open /dev/tty: no such device" in running.exec(*script, flags=["--tty"]).err
    master, slave = os.openpty()
    process = running.runtime.popen("exec", "--tty", running.id, *script, stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    assert process.communicate(timeout=60 * PATIENCE)[0] == b"/dev/pts/0\na\rb\n"
    os.close(master)


def test_a_cgroup_below_the_containers(running: Container) -> None:
    made = "mkdir /tmp/cgroup && mount -t cgroup2 none /tmp/cgroup && mkdir /tmp/cgroup/jobs && umount /tmp/cgroup"
    running.exec("sh", "-c", made, flags=["--cap", "CAP_SYS_ADMIN"]).ok()
    assert running.exec("cat", "/proc/self/cgroup", flags=["--cgroup", "jobs"]).ok().out == "0::/jobs\n"
    assert running.exec("cat", "/proc/self/cgroup").ok().out == "0::/\n"
    assert running.exec("cat", "/proc/self/cgroup", flags=["--cgroup", "/jobs"]).ok().out == "0::/jobs\n"
    assert running.exec("cat", "/proc/self/cgroup", flags=["--cgroup", "/"]).ok().out == "0::/\n"
    refused = running.exec("true", flags=["--cgroup", "../other"])
    assert refused.status == 255
    assert "../other is not a sub cgroup path" in refused.err


def test_cwd(running: Container) -> None:
    assert running.exec("pwd", flags=["--cwd", "/tmp"]).ok().out == "/tmp\n"


def test_env_is_added_to_the_containers(running: Container) -> None:
    lines = running.exec("env", flags=["--env", "A=1", "--env", "B=x y", "--env", "C="]).ok().out.splitlines()
    assert {"A=1", "B=x y", "C=", PATH} <= set(lines)


def test_user_and_additional_gids(running: Container) -> None:
    done = running.exec("id", flags=["--user", "1000:1001", "--additional-gids", "50", "--additional-gids", "60"])
    assert done.ok().out.strip() == "uid=1000 gid=1001 groups=50(staff),60"


@pytest.mark.parametrize("flags, bit", [([], 0), (["--cap", "CAP_NET_ADMIN"], 1)])
def test_cap_adds_a_capability(running: Container, flags: list[str], bit: int) -> None:
    net_admin = 12
    status = running.exec("cat", "/proc/self/status", flags=flags).ok().out
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff"))
    assert effective >> net_admin & 1 == bit


def test_no_new_privs(running: Container) -> None:
    done = running.exec("grep", "NoNewPrivs", "/proc/self/status", flags=["--no-new-privs"])
    assert done.ok().out.split() == ["NoNewPrivs:", "1"]


def test_a_process_file_says_it_all(running: Container, tmp_path: Path) -> None:
    process = default_process(["sh", "-c", "pwd; id -u; echo $X; ulimit -n"])
    process |= {"cwd": "/etc", "user": {"uid": 8, "gid": 12}, "env": [PATH, "X=y"]}
    process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 333, "hard": 444}]
    file = tmp_path / "process.json"
    file.write_text(json.dumps(process))
    done = running.runtime("exec", "--process", file, running.id)
    assert done.ok().out.split() == ["/etc", "8", "y", "333"]


def test_a_bad_process_file_is_refused(running: Container, tmp_path: Path) -> None:
    file = tmp_path / "process.json"
    file.write_text('{"args": []')
    assert running.runtime("exec", "--process", file, running.id).status == 255
    assert running.runtime("exec", "--process", tmp_path / "nosuch", running.id).status == 255


def test_without_a_command_it_says_what_is_missing(running: Container) -> None:
    done = running.runtime("exec", running.id)
    assert done.status == 255
    assert "process args cannot be empty" in done.err


def test_it_sees_the_containers_processes_and_files(running: Container) -> None:
    assert running.sh("cat /proc/1/cmdline").startswith("sleep")
    assert running.sh("echo seen > /tmp/x; cat /tmp/x") == "seen"
    assert (running.bundle.rootfs / "tmp/x").read_text() == "seen\n"


class Detached:
    """An `exec --detach` whose output goes to a file."""

    def __init__(self, container: Container, folder: Path, script: str) -> None:
        self.pid_file = folder / "exec.pid"
        self.output = folder / "exec.out"
        argv = ("exec", "--detach", "--pid-file", self.pid_file, container.id, "sh", "-c", script)
        with self.output.open("wb") as out:
            assert container.runtime.popen(*argv, stdout=out).wait(30 * PATIENCE) == 0
        self.pid = int(self.pid_file.read_text())


@pytest.fixture
def detached(running: Container, tmp_path: Path) -> Iterator[Detached]:
    """One that says `ready`, then waits for a TERM and ends with 5."""
    process = Detached(running, tmp_path, "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done")
    wait_for("ready", lambda: process.output.read_text() == "ready\n")
    yield process
    if processes.alive(process.pid):
        os.kill(process.pid, signal.SIGKILL)
        wait_for("the stand-in is gone", lambda: not processes.alive(process.pid))


def test_detached_it_has_a_pid_that_signals_reach(detached: Detached) -> None:
    os.kill(detached.pid, signal.SIGTERM)
    assert processes.exit_status(detached.pid) == 5
    assert detached.output.read_text() == "ready\nbye\n"


def test_killing_its_pid_kills_the_process(running: Container, detached: Detached) -> None:
    os.kill(detached.pid, signal.SIGKILL)
    assert processes.exit_status(detached.pid) == 137
    gone = "! grep -l '^sh.-c.trap' /proc/[0-9]*/cmdline 2>/dev/null | grep -v self | grep -q ."
    wait_for("the guest's process is gone", lambda: running.exec("sh", "-c", gone).status == 0)


def test_detached_with_stdin_from_a_pipe(running: Container, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        argv = ("exec", "--detach", "--pid-file", tmp_path / "pid", running.id, "cat")
        process = running.runtime.popen(*argv, stdin=subprocess.PIPE, stdout=out)
        assert process.wait(30 * PATIENCE) == 0
        assert process.stdin
        process.stdin.write(b"hello")
        process.stdin.close()
    assert processes.exit_status(int((tmp_path / "pid").read_text())) == 0
    assert (tmp_path / "out").read_bytes() == b"hello"


def test_an_unwritable_pid_file_fails_and_leaves_no_process(running: Container) -> None:
    flags = ["--detach", "--pid-file", "/nosuch/pid"]
    assert running.exec("sleep", "54321", flags=flags).status == 255
    listed = running("ps").ok().out
    assert "54321" not in listed


@pytest.mark.guest  # runc waits for the child
def test_a_child_that_lives_on_does_not_hold_exec_back(running: Container, tmp_path: Path) -> None:
    argv = ("exec", running.id, "sh", "-c", "sleep 98765 & echo $!")
    with (tmp_path / "out").open("wb") as out:
        assert running.runtime.popen(*argv, stdout=out).wait(20 * PATIENCE) == 0
    child = int((tmp_path / "out").read_text())
    running.sh(f"kill {child}")


def test_with_a_terminal_of_its_own(running: Container, scratch: Path, tmp_path: Path) -> None:
    with ConsoleSocket(scratch / "console") as console:
        files: list[str | Path] = ["--console-socket", console.path, "--pid-file", tmp_path / "pid"]
        running.exec("sh", flags=["--tty", "--detach", *files]).ok()
        with console.receive() as terminal:
            terminal.resize(111, 33)
            terminal.send("tty; stty size\n")
            terminal.expect(r"/dev/pts/\d+\r\n33 111\r\n")
            terminal.send("exit 6\n")
            assert processes.exit_status(int((tmp_path / "pid").read_text())) == 6


def test_many_at_once(running: Container) -> None:
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda n: running.exec("sh", "-c", f"cat; exit {n}", input=b"%d" % n), range(6)))
    assert [(r.status, r.out) for r in results] == [(n, str(n)) for n in range(6)]


@pytest.mark.guest
def test_nothing_of_it_stays_in_the_supervisor(running: Container) -> None:
    running.exec("true").ok()
    supervisor = owner_of(running, "supervisor")
    before = processes.descriptors(supervisor)
    for _ in range(3):
        running.exec("cat", input=b"x").ok()
    wait_for("its descriptors are closed", lambda: len(processes.descriptors(supervisor)) <= len(before), 60)


def test_a_container_that_is_not_there(running: Container) -> None:
    done = running.runtime("exec", "nosuch", "true")
    assert done.status == 255
    assert "container does not exist" in done.err


@pytest.mark.guest
def test_no_openssl_is_in_the_supervisor(running: Container) -> None:
    """It costs 4 MB in every pod; see katapy/supervisor/unneeded.py."""
    running.exec("true").ok()
    maps = Path(f"/proc/{owner_of(running, 'supervisor')}/maps").read_text()
    assert "cygrpc" in maps
    assert [name for name in ("_ssl.", "_hashlib.", "libssl", "libcrypto") if name in maps] == []
