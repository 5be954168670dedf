"""The stand-in for real: a shell, a socket pair, signals."""

import os
import signal

import pytest

from katapy import standin


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def released() -> standin.Standin:
    started = standin.spawn(standin.StandinSpec("workload"))
    started.release()
    return started


def test_it_is_held_until_it_is_released() -> None:
    started = standin.spawn(standin.StandinSpec("workload"))
    started.channel.send(b"3\n")
    assert os.waitpid(started.pid, os.WNOHANG) == (0, 0)
    started.release()
    assert wait(started.pid) == 3
    started.channel.close()


@pytest.mark.parametrize("name, shown", [("workload", "workload"), ("-sh", "sh"), ("--", "container")])
def test_it_is_no_login_shell(name: str, shown: str) -> None:
    """A shell whose name begins with a dash reads the host's /etc/profile."""
    started = standin.spawn(standin.StandinSpec(name))
    started.release()
    with open(f"/proc/{started.pid}/cmdline", encoding="ascii") as f:
        assert f.read().split("\0")[0] == shown
    started.channel.send(b"0\n")
    assert wait(started.pid) == 0
    started.channel.close()


def test_a_step_that_fails_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="/absent"):
        standin.spawn(standin.StandinSpec("workload", namespaces=(("network", "/absent"),)))


def test_it_exits_with_the_status_it_is_told() -> None:
    started = released()
    started.channel.send(b"42\n")
    assert wait(started.pid) == 42
    started.channel.close()


def test_it_reports_signals_and_lives_on() -> None:
    started = released()
    seen = b""
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGWINCH, signal.SIGRTMIN):
        _until_trapping(started.pid)
        os.kill(started.pid, signum)
        seen += started.channel.recv(64)
    started.channel.send(b"0\n")
    assert seen == b"15\n2\n28\n34\n"
    assert wait(started.pid) == 0
    started.channel.close()


def _until_trapping(pid: int) -> None:
    """Until the shell has installed its last trap and waits in read: SigCgt holds the highest signal."""
    while True:
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            caught = next(int(line.split()[1], 16) for line in f if line.startswith("SigCgt"))
        if caught & (1 << 63):
            return


@pytest.mark.parametrize("there, shell", [("/bin/dash", "/bin/dash"), ("/absent", "/bin/bash")])
def test_it_is_dash_where_there_is_one(there: str, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """/bin/sh of some hosts is bash, which tells of no SIGWINCH while it waits."""
    monkeypatch.setattr(standin, "_SHELL", "/bin/bash")
    monkeypatch.setattr(standin, "_DASH", there)
    started = released()
    assert os.readlink(f"/proc/{started.pid}/exe") == os.path.realpath(shell)
    started.channel.send(b"0\n")
    assert wait(started.pid) == 0
    started.channel.close()


def test_killing_it_closes_the_channel() -> None:
    started = released()
    os.kill(started.pid, signal.SIGKILL)
    assert started.channel.recv(64) == b""
    assert wait(started.pid) == -signal.SIGKILL
    started.channel.close()


def test_it_ends_with_137_when_the_supervisor_is_gone() -> None:
    started = released()
    started.channel.close()
    assert wait(started.pid) == 137


def test_it_holds_no_descriptor_of_its_parent() -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    started = released()
    _until_trapping(started.pid)
    held = {os.readlink(f"/proc/{started.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{started.pid}/fd")}
    assert os.readlink(f"/proc/self/fd/{writing}") not in held
    assert held - {"/dev/null"} == {link for link in held if link.startswith("socket:")}
    os.close(writing)
    os.close(reading)
    started.kill()


def test_it_has_the_name_of_what_it_stands_for() -> None:
    started = released()
    with open(f"/proc/{started.pid}/cmdline", "rb") as f:
        assert f.read().split(b"\0")[0] == b"workload"
    started.kill()
