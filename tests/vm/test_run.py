"""`run` in the foreground: what comes out, and how it ends."""

import hashlib
import os
import re
import signal
import subprocess

import pytest
from framework.bundle import Spec
from framework.fixtures import BundleMaker
from framework.runtime import Runtime, closing_popen
from framework.wait import PATIENCE, wait_for

BIG = 64 * 1024 * 1024


def test_output_errors_and_status_come_through_apart(runtime: Runtime, bundle: BundleMaker) -> None:
    done = runtime.run(bundle("sh", "-c", "echo out; echo err >&2; exit 7"))
    assert (done.out, done.err, done.status) == ("out\n", "err\n", 7)
    assert runtime.ids() == []


def test_a_missing_executable_is_an_error_in_runcs_words(runtime: Runtime, bundle: BundleMaker) -> None:
    done = runtime.run(bundle("/nosuch"))
    assert done.status == 1
    assert "/nosuch" in done.err
    assert "no such file or directory" in done.err.lower()
    assert runtime.ids() == []


def test_a_program_that_cant_be_executed_is_a_plain_line_of_the_containers_own(
    runtime: Runtime, bundle: BundleMaker
) -> None:
    """It is found, so `create` does well; what goes wrong at `start` is written by the container's init."""
    made = bundle("/script")
    (made.rootfs / "script").write_text("#!/nosuch\n")
    (made.rootfs / "script").chmod(0o755)
    done = runtime.run(made)
    assert done.status != 0
    assert re.fullmatch("exec .*/script.*: no such file or directory\n", done.err.lower())


@pytest.mark.parametrize("private", [True, False])
def test_without_a_hostname_the_hosts_name_is_seen(runtime: Runtime, bundle: BundleMaker, private: bool) -> None:
    """As runc's: a new UTS namespace starts with its parent's name."""

    def nameless(spec: Spec) -> None:
        del spec["hostname"]
        spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if private or n["type"] != "uts"]

    assert runtime.run(bundle("hostname", edit=nameless)).out.strip() == os.uname().nodename


def test_stdin_is_passed_on_and_ends(runtime: Runtime, bundle: BundleMaker) -> None:
    text = os.urandom(1024 * 1024)
    done = runtime.run(bundle("sha256sum"), input=text)
    assert done.ok().out.split()[0] == hashlib.sha256(text).hexdigest()


def test_much_output_reaches_a_slow_reader_byte_for_byte(runtime: Runtime, bundle: BundleMaker) -> None:
    made = bundle("cat", "/blob")
    blob = os.urandom(BIG)
    (made.rootfs / "blob").write_bytes(blob)
    argv = ("run", "--bundle", made.path, runtime.new_id())
    with closing_popen(runtime.popen(*argv, stdout=subprocess.PIPE)) as process:
        assert process.stdout
        output = process.stdout.fileno()
        first = process.stdout.read(1)  # then leave it alone, with a full pipe
        wait_for("the pipe is full", lambda: _readable(output) >= 65536)
        assert hashlib.sha256(first + process.stdout.read()).hexdigest() == hashlib.sha256(blob).hexdigest()
        assert process.wait(30 * PATIENCE) == 0


def _readable(fd: int) -> int:
    import fcntl
    import struct
    import termios

    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0])


def test_a_reader_that_goes_away_ends_the_writer(runtime: Runtime, bundle: BundleMaker) -> None:
    argv = ("run", "--bundle", bundle("yes").path, runtime.new_id())
    with closing_popen(runtime.popen(*argv, stdout=subprocess.PIPE)) as process:
        assert process.stdout
        assert process.stdout.read(4) == b"y\ny\n"
        process.stdout.close()
        assert process.wait(30 * PATIENCE) in (1, 128 + signal.SIGPIPE)


@pytest.mark.parametrize("number", [signal.SIGTERM])
def test_signals_to_run_reach_the_container(runtime: Runtime, bundle: BundleMaker, number: signal.Signals) -> None:
    script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    argv = ("run", "--bundle", bundle("sh", "-c", script).path, runtime.new_id())
    with closing_popen(runtime.popen(*argv, stdout=subprocess.PIPE)) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.read() == b"caught\n"
        assert process.wait(30 * PATIENCE) == 3


def test_detached_it_goes_on_and_keeps_the_callers_output(runtime: Runtime, bundle: BundleMaker) -> None:
    made = bundle("sh", "-c", "echo hello; exit 4")
    pid_file = made.path / "pid"
    id = runtime.new_id()
    with (made.path / "out").open("wb") as out:
        argv = ("run", "--detach", "--pid-file", pid_file, "--bundle", made.path, id)
        assert runtime.popen(*argv, stdout=out).wait(150 * PATIENCE) == 0
    text = pid_file.read_text()
    assert text == str(int(text))
    from framework.processes import exit_status

    assert exit_status(int(text)) == 4
    assert (made.path / "out").read_text() == "hello\n"
    assert '"stopped"' in runtime("state", id).ok().out
