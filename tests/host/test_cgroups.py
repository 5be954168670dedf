"""Cgroups on the host's real hierarchies. Needs root and writable cgroups."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from framework.processes import find, sleeper

from katapy.cgroups import Cgroup, open_cgroup, shortage
from katapy.errors import HostError
from katapy.linux.proc import write_file

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
    parent, child = open_cgroup(PARENT, "c1"), open_cgroup(f"{PARENT}/c2", "c2")
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
    inner = open_cgroup(f"/{PARENT}/deep/c1/exec", "c1")
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


@pytest.fixture
def namesake() -> Cgroup:
    """Of a container with the same id and path, in another state root."""
    return open_cgroup(f"/{PARENT}/deep/c1", "/elsewhere/c1")


def test_a_namesake_gets_no_cgroup_and_harms_none(cgroup: Cgroup, namesake: Cgroup) -> None:
    pid = sleeper(cgroup)
    with pytest.raises(HostError, match=r"is that of another container: .*/c1"):
        namesake.create()
    namesake.kill()
    namesake.remove()
    for name in cgroup.procs_files():
        assert Path(name).read_text().split() == [str(pid)], name
    cgroup.kill()
    os.waitpid(pid, 0)


def test_one_with_processes_in_it_is_refused(cgroup: Cgroup) -> None:
    """As runc does since 1.2."""
    inner = open_cgroup(f"/{PARENT}/deep/c1/inner", "c2")
    inner.create()
    pid = sleeper(inner)
    with pytest.raises(HostError, match=r"container's cgroup is not empty: 1 process\(es\) found"):
        cgroup.create()
    inner.kill()
    os.waitpid(pid, 0)
    inner.remove()


def test_a_frozen_one_is_refused_whoever_froze_it_or_one_above() -> None:
    """Or `create` waits for ever for a machine that stands still."""
    above, cgroup = open_cgroup(PARENT, "c1"), open_cgroup(f"{PARENT}/c1", "c1")
    above.create()
    freezers = [path for path in above.paths() if (Path(path) / "freezer.state").exists()]
    files = [f"{p}/freezer.state" for p in freezers] or [f"{p}/cgroup.freeze" for p in above.paths()]
    frozen, thawed = ("FROZEN", "THAWED") if freezers else ("1", "0")
    try:
        write_file(files[0], frozen)
        with pytest.raises(HostError, match="container's cgroup unexpectedly frozen"):
            cgroup.create()
        assert not any(Path(path).exists() for path in cgroup.paths())
        write_file(files[0], thawed)
        cgroup.create()
        cgroup.remove()
    finally:
        above.remove()


def _read(cgroup: Cgroup, *names: str) -> list[str]:
    """Those files of the memory controller that this version of cgroups has."""
    paths = [Path(path) / f"memory.{name}" for path in cgroup.paths() for name in names]
    return [path.read_text() for path in paths if path.exists()]


def test_a_kill_for_memory_is_noted_in_it(cgroup: Cgroup) -> None:
    """Who lives in it lives on, and it has no limit afterwards."""
    pid = sleeper(cgroup)
    shortage.note_kill(cgroup)
    (found,) = [dict(line.split() for line in text.splitlines()) for text in _read(cgroup, "oom_control", "events")]
    assert found.get("under_oom") == "0" or int(found["oom_kill"]) == 1
    assert _read(cgroup, "limit_in_bytes", "max") in (["max\n"], ["9223372036854771712\n"])
    assert find(pid) is not None
    cgroup.kill()
    os.waitpid(pid, 0)


def test_who_notes_a_kill_may_be_in_the_cgroup_with_much_page_cache(cgroup: Cgroup, tmp_path: Path) -> None:
    """As the supervisor is, in that of a pod's first container."""
    pid = os.fork()
    if pid == 0:
        try:
            cgroup.join(os.getpid())
            (tmp_path / "cached").write_bytes(bytes(48 << 20))
            shortage.note_kill(cgroup)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0) == (pid, 0)


def test_no_kill_where_memory_is_not_accounted() -> None:
    with pytest.raises(HostError, match=f"no memory controller in cgroup /{PARENT}"):
        shortage.note_kill(open_cgroup(f"/{PARENT}/none", "none"))


def test_a_parent_of_anothers_can_be_a_containers_own() -> None:
    """And goes with the last of the two, in either order."""
    for first_leaves in (True, False):
        inner, outer = open_cgroup(f"/{PARENT}/x/c3", "c3"), open_cgroup(f"/{PARENT}/x", "x")
        inner.create()
        outer.create()
        for one in (inner, outer) if first_leaves else (outer, inner):
            one.remove()
        assert not any(Path(path).exists() for path in outer.paths())
