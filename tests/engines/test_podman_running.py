"""What `podman` does with a container that runs: exec, logs, inspect, top, pause, cp. One machine for all of it."""

from pathlib import Path

import pytest
from framework import processes
from framework.podman import Box
from framework.wait import PATIENCE, wait_for


def test_logs(box: Box) -> None:
    wait_for("both lines are logged", lambda: box("logs").out == "started\n" and box("logs").err == "trouble\n")


def test_ps_lists_it(box: Box) -> None:
    assert box.podman("ps", "--format", "{{.Names}}").ok().out == "box\n"


def test_inspect_tells_a_process_that_lives(box: Box) -> None:
    assert box.inspect("State.Running") == "true"
    assert box.inspect("State.Status") == "running"
    assert processes.alive(int(box.inspect("State.Pid")))


@pytest.mark.parametrize("status", [0, 5, 255])
def test_exec_has_the_processs_status(box: Box, status: int) -> None:
    assert box.exec("sh", "-c", f"exit {status}").status == status


def test_exec_output_and_errors_come_apart(box: Box) -> None:
    done = box.exec("sh", "-c", "echo out; echo err >&2").ok()
    assert (done.out, done.err) == ("out\n", "err\n")


def test_exec_with_stdin(box: Box) -> None:
    data = bytes(range(256)) * 4096
    assert box.exec("cat", flags=["-i"], input=data).ok().stdout == data


def test_exec_env_user_and_workdir(box: Box) -> None:
    done = box.exec("sh", "-c", 'echo "$A"; id; pwd', flags=["--env=A=x y", "--user=8:50", "--workdir=/tmp"]).ok()
    assert done.out.splitlines() == ["x y", "uid=8(mail) gid=50(staff)", "/tmp"]


@pytest.mark.parametrize("command, status", [("/nosuch", 127), ("nosuch", 127), ("/etc/passwd", 126)])
def test_exec_of_what_cannot_be_executed(box: Box, command: str, status: int) -> None:
    done = box.exec(command)
    assert done.status == status
    assert command in done.err


def test_exec_in_a_terminal(box: Box) -> None:
    process, terminal = box.podman.terminal("exec", "-it", box.id, "sh")
    with terminal:
        terminal.send("tty; stty size\n")
        terminal.expect(r"/dev/pts/\d+\r\n24 80\r\n")
        terminal.resize(100, 30)
        terminal.send("while [ \"$(stty size)\" != '30 100' ]; do :; done; echo re''sized\n")
        terminal.expect("resized")
        terminal.send("exit 6\n")
        assert process.wait(20 * PATIENCE) == 6


def test_exec_detached(box: Box) -> None:
    box.exec("sh", "-c", "echo done > /tmp/detached", flags=["-d"]).ok()
    wait_for("it has run", lambda: box.exec("cat", "/tmp/detached").out == "done\n")


def test_top_shows_the_processes_of_now(box: Box) -> None:
    box.podman("exec", "--detach", box.id, "sleep", "4").ok()
    shown = box.podman("top", box.id, "user", "args").ok().out
    assert "cat" in shown
    assert "sleep 4" in shown
    wait_for("sleep to go", lambda: "sleep 4" not in box.podman("top", box.id, "args").ok().out)


def test_top_with_options_of_ps(box: Box) -> None:
    assert "cat" in box.podman("top", box.id, "-ef").ok().out


def test_pause_and_unpause(box: Box) -> None:
    box("pause").ok()
    try:
        assert box.inspect("State.Status") == "paused"
        assert box.exec("true").status != 0
    finally:
        box("unpause").ok()
    assert box.inspect("State.Status") == "running"
    assert box.sh("echo again") == "again"


def test_cp_both_ways(box: Box, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 1000)
    box.podman("cp", source, f"{box.id}:/tmp/copied").ok()
    assert box.sh("wc -c < /tmp/copied") == "256000"
    box.sh("mkdir -p /tmp/tree/sub; echo deep > /tmp/tree/sub/file")
    box.podman("cp", f"{box.id}:/tmp/tree", tmp_path / "back").ok()
    assert (tmp_path / "back/sub/file").read_text() == "deep\n"


def test_the_files_of_an_image_are_there(box: Box) -> None:
    assert box.sh("cat /etc/passwd").startswith("root:")


def test_two_execs_at_once(box: Box) -> None:
    box.sh("rm -f /tmp/meeting")
    waiting = "until [ -e /tmp/meeting ]; do sleep 0.05; done; echo met"
    first = box.podman.popen("exec", box.id, "sh", "-c", waiting, stdout=-1)
    box.sh("touch /tmp/meeting")
    assert first.communicate(timeout=90 * PATIENCE)[0] == b"met\n"
