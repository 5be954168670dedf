"""Cgroups on the host's real hierarchies. Needs root and writable cgroups."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from framework.processes import sleeper

from katapy.cgroups import Cgroup, open_cgroup
from katapy.errors import HostError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
PARENT = f"katapy-test-{os.getpid()}"


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    made = open_cgroup(f"/{PARENT}/deep/c1", "c1")
    made.create()
    yield made
    made.remove()


def test_a_process_joins_every_hierarchy(cgroup: Cgroup) -> None:
    pid = sleeper(cgroup)
    assert cgroup.paths()
    for name in cgroup.procs_files():
        assert Path(name).read_text().split() == [str(pid)], name
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_nothing_is_left_not_even_parents(cgroup: Cgroup) -> None:
    top = [path.removesuffix("/deep/c1") for path in cgroup.paths()]
    assert all(Path(path).is_dir() for path in top)
    open_cgroup(f"/{PARENT}/deep/c1", "c1").remove()
    assert not any(Path(path).exists() for path in top)
    cgroup.remove()


def test_what_was_there_stays() -> None:
    parent, child = open_cgroup(PARENT, ""), open_cgroup(f"{PARENT}/c2", "")
    for path in parent.paths():
        os.mkdir(path)
    try:
        child.create()
        child.remove()
        assert all(Path(path).is_dir() for path in parent.paths())
        assert not any(Path(path).exists() for path in child.paths())
        parent.create()
        parent.remove()
        assert all(Path(path).is_dir() for path in parent.paths())
    finally:
        for path in parent.paths():
            os.rmdir(path)


def test_remove_waits_for_the_end_and_removes_what_is_below(cgroup: Cgroup) -> None:
    inner = open_cgroup(f"/{PARENT}/deep/c1/exec", "")
    for path in inner.paths():
        os.mkdir(path)
    pid = sleeper(cgroup)
    ender = os.fork()
    if ender == 0:
        signal.sigtimedwait([], 0.2)
        os.kill(pid, signal.SIGKILL)
        os._exit(0)
    cgroup.remove()
    assert not any(Path(path).exists() for path in cgroup.paths())
    os.waitpid(pid, 0)
    os.waitpid(ender, 0)


def test_a_process_that_stays_is_named(cgroup: Cgroup) -> None:
    pid = sleeper(cgroup)
    with pytest.raises(HostError, match=f"Device or resource busy: {pid}"):
        cgroup.remove(0.1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_process_of_another_pid_namespace_is_let_alone_and_so_is_the_caller(cgroup: Cgroup) -> None:
    pid = sleeper(cgroup)
    kill = f"from katapy.cgroups import open_cgroup; open_cgroup('/{PARENT}/deep/c1', 'c1').kill(); print('done')"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", kill]
    try:
        killer = subprocess.run(command, start_new_session=True, stdout=subprocess.PIPE, check=False)
        assert (killer.returncode, killer.stdout) == (0, b"done\n")
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
