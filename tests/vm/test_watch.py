"""Looking at containers: ps, list, pause seen from outside. One container."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from framework import processes
from framework.runtime import Container
from framework.wait import wait_for


@pytest.mark.guest
def test_ps_shows_the_guests_processes(running: Container) -> None:
    header, *rows = running("ps").ok().out.splitlines()
    assert header.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert [row for row in rows if row.endswith("sleep 1000000")]


@pytest.mark.guest
def test_ps_takes_the_formats_of_ps(running: Container) -> None:
    header, row = running("ps", "aux").ok().out.splitlines()
    assert header.split() == ["USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND"]
    assert row.split()[0] == "root"
    assert int(row.split()[4]) >= int(row.split()[5]) > 0
    assert running("ps", "-o", "comm,state").ok().out.split() == ["COMMAND", "S", "sleep", "S"]
    done = running("ps", "--forest")
    assert (done.status, "ps options '--forest' are not supported" in done.err) == (1, True)


def test_ps_as_json_gives_pids_of_the_host(running: Container) -> None:
    pids = json.loads(running.runtime("ps", "--format", "json", running.id).ok().out)
    assert running.pid in pids
    assert all(processes.alive(pid) for pid in pids)


def test_ps_refuses_an_unknown_format(running: Container) -> None:
    done = running.runtime("ps", "--format", "xml", running.id)
    assert done.status == 1
    assert "invalid format option" in done.err


def test_list_has_it_in_every_form(running: Container) -> None:
    assert running.runtime("list", "--quiet").ok().out.split() == [running.id]
    header, row = running.runtime("list").ok().out.splitlines()
    assert header.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert row.split()[:4] == [running.id, str(running.pid), "running", str(running.bundle.path)]
    assert row.split()[5] == "root"
    (document,) = json.loads(running.runtime("list", "--format", "json").ok().out)
    assert document | {"owner": ""} == running.state() | {"owner": ""}


def test_paused_it_stands_still_and_goes_on(running: Container, tmp_path: Path) -> None:
    counter = running.bundle.rootfs / "tmp/counter"
    script = "i=0; while :; do i=$((i+1)); echo $i > /tmp/counter; sleep 0.05; done"
    argv = ("exec", "--detach", "--pid-file", tmp_path / "pid", running.id, "sh", "-c", script)
    assert running.runtime.popen(*argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait(30) == 0
    wait_for("it counts", lambda: counter.exists() and counter.read_text())
    running("pause").ok()
    assert running.status == "paused"
    seen = counter.read_text()
    half_a_second_later = time.monotonic() + 0.5
    wait_for("time to pass", lambda: time.monotonic() > half_a_second_later)
    assert counter.read_text() == seen
    patient = ("exec", "--ignore-paused", running.id, "cat", "/tmp/counter")
    waiting = running.runtime.popen(*patient, stdout=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.5)
    running("resume").ok()
    assert running.status == "running"
    out, _ = waiting.communicate(timeout=30)
    assert (waiting.returncode, int(out) >= int(seen)) == (0, True)
    wait_for("it counts again", lambda: counter.read_text() not in ("", seen))
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_the_pids_namespaces_and_cgroup_stand_for_the_containers(running: Container) -> None:
    own, its = (os.readlink(f"/proc/{pid}/ns/net") for pid in (os.getpid(), running.pid))
    assert own != its
    cgroups = open(f"/proc/{running.pid}/cgroup").read()
    assert running.bundle.spec["linux"]["cgroupsPath"] in cgroups


def test_whoever_enters_the_pids_mount_namespace_is_in_the_containers_files(running: Container) -> None:
    (running.bundle.rootfs / "etc/marker").write_text("here")
    argv = ["nsenter", f"--mount=/proc/{running.pid}/ns/mnt", "/bin/cat", "/etc/marker"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    assert (done.stdout, done.stderr) == ("here", "")


@pytest.mark.guest
def test_the_stand_in_is_small(running: Container) -> None:
    assert processes.pss_kib(running.pid) < 4096
