"""A test host that runs: what commands in it are given and give back, and its end. Clones of one template: seconds."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from framework import processes
from framework.fixtures import IMAGE
from framework.wait import wait_for
from testhost import description
from testhost.host import TestHost
from testhost.session import TestHostError

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(1800),  # the first one makes image and template
    pytest.mark.vm,
]
CI = os.environ.get("CI") == "true"


@pytest.fixture(scope="module")
def host() -> Iterator[TestHost]:
    if not IMAGE.exists() and not CI:
        pytest.skip("no guest image: make image")
    with TestHost() as host:
        yield host


def test_output_status_and_input_come_through(host: TestHost) -> None:
    done = host.run(["sh", "-c", "wc -c; echo err >&2; exit 3"], input=b"x" * 200_000)
    assert (done.status, done.stdout.strip(), done.stderr) == (3, b"200000", b"err\n")


def test_much_output_is_complete(host: TestHost) -> None:
    lines = host.run(["seq", "200000"]).ok().stdout.split()
    assert (len(lines), lines[-1]) == (200_000, b"200000")


def test_a_signal_is_a_status_as_in_a_shell(host: TestHost) -> None:
    assert host.run(["sh", "-c", "kill -9 $$"]).status == 137


def test_a_command_that_is_not_there(host: TestHost) -> None:
    done = host.run(["/nosuch"])
    assert (done.status, done.stderr) == (127, b"can't run /nosuch: No such file or directory\n")


def test_a_child_in_the_background_holds_nobody_up(host: TestHost) -> None:
    assert host.run(["sh", "-c", "sleep 1000 & echo started"]).stdout == b"started\n"


def test_a_command_that_takes_too_long_is_killed_and_the_host_goes_on(host: TestHost) -> None:
    with pytest.raises(TimeoutError, match=r"sleep 1000 was killed after 0\.5 s"):
        host.run(["sleep", "1000"], deadline_s=0.5)
    assert host.run(["echo", "well"]).stdout == b"well\n"


def test_it_is_the_host_that_is_promised(host: TestHost) -> None:
    script = (
        "test -c /dev/kvm && test -c /dev/vhost-vsock && cat /proc/1/comm && stat -f -c %T /sys/fs/cgroup && date +%Y"
    )
    lines = host.run(["sh", "-c", script]).ok().stdout.split()
    assert lines[:2] == [b"systemd", b"cgroup2fs"]
    assert int(lines[2]) >= 2025


def test_a_machine_that_dies_is_noticed_at_once(host: TestHost) -> None:
    """The last one of this module: the host is gone after it."""
    commands = host.stream(["sh", "-c", "echo started; sleep 1000"], deadline_s=600)
    assert next(commands)[1] == b"started\n"
    os.kill(host.pid, signal.SIGKILL)
    with pytest.raises(TestHostError, match="the test host's machine has ended"):
        next(commands)


def test_an_owner_that_is_killed_takes_it_along() -> None:
    argv = [sys.executable, str(description.HERE), "echo started; exec sleep 1000"]
    owner = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"started\n"
    machines = [p for p in processes.descendants(owner.pid) if "katapy-testhost" in p.command]
    assert len(machines) == 1
    owner.kill()
    owner.wait()
    owner.stdout.close()
    wait_for("its machine is gone", lambda: not processes.alive(machines[0].pid), 60)
