"""state.json: atomic, versioned, and honest about a dead supervisor."""

import os
from pathlib import Path

import pytest

from katapy.errors import AlreadyExists, HostError, KatapyError, NotFound, UsageError
from katapy.sandbox import store


def state(**changes: object) -> store.State:
    return store.State(id="c1", sandbox="c1", bundle="/b")._replace(**changes)


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "root")


def test_round_trip(root: str) -> None:
    assert store.reserve(root, "c1") == f"{root}/c1"
    saved = state(annotations={"ключ": 'a"\n'}, exit_status=7, created="2026-01-01T00:00:00.000000001Z")
    store.save(root, saved)
    assert store.load(root, "c1") == saved
    assert os.listdir(f"{root}/c1") == ["state.json"]
    assert os.stat(f"{root}/c1").st_mode & 0o777 == 0o700
    assert store.list_ids(root) == ["c1"]


def test_the_folder_is_the_lock(root: str) -> None:
    store.reserve(root, "c1")
    with pytest.raises(AlreadyExists, match="container with given ID already exists"):
        store.reserve(root, "c1")
    assert store.list_ids(root) == []
    store.remove(root, "c1")
    store.remove(root, "c1")
    store.reserve(root, "c1")


def test_not_found(root: str) -> None:
    assert store.list_ids(root) == []
    with pytest.raises(NotFound, match="container does not exist"):
        store.load(root, "c1")


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "../x", "a b", "ä", "a\0", "x" * 1025])
def test_ids_never_become_paths(root: str, bad: str) -> None:
    with pytest.raises(UsageError, match=r"invalid container ID format|cannot be empty"):
        store.load(root, bad)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version":1}', '{"version":2}', "\udcff", "[" * 100000])
def test_damage_is_one_error(root: str, text: str) -> None:
    store.reserve(root, "c1")
    Path(root, "c1", "state.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(KatapyError, match="delete --force"):
        store.load(root, "c1")


@pytest.mark.parametrize("status", ["creating", "created", "running", "paused"])
def test_dead_supervisor_means_stopped(root: str, status: str) -> None:
    store.reserve(root, "c1")
    mine = state(status=status, pid=5, supervisor_pid=os.getpid(), supervisor_start=store.start_time(os.getpid()))
    store.save(root, mine)
    assert store.live_status(root, "c1").status == status
    store.save(root, mine._replace(supervisor_start=mine.supervisor_start + 1))
    assert (store.live_status(root, "c1").status, store.live_status(root, "c1").pid) == ("stopped", 0)


def test_what_was_dead_before_it_was_looked_at_is_dead(root: str) -> None:
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(child, 0)
    assert not store.supervisor_alive(state(supervisor_pid=child, supervisor_start=store.start_time(child)))


def test_what_could_not_be_read_again_is_not_written(root: str) -> None:
    store.reserve(root, "c1")
    store.save(root, state())
    with pytest.raises(HostError, match="annotations"):
        store.save(root, state(annotations={"a": "\u00e9" * (store.MAX_STATE // 6)}))
    assert store.load(root, "c1") == state()


def test_a_zombie_is_dead() -> None:
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert store.start_time(child) == 0
    os.waitpid(child, 0)


def test_remove_takes_symbolic_links_not_their_targets(root: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    folder = Path(store.reserve(root, "c1"))
    (folder / "shared" / "deep").mkdir(parents=True)
    (folder / "shared" / "link").symlink_to(outside)
    (folder / "shared" / "deep" / "file").symlink_to(outside / "file")
    store.remove(root, "c1")
    assert not folder.exists()
    assert (outside / "file").read_text() == "kept"


def test_remove_refuses_while_something_is_mounted(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.reserve(root, "c1")
    monkeypatch.setattr(store, "_mount_below", lambda path: f"{path}/shared")
    with pytest.raises(HostError, match="still mounted"):
        store.remove(root, "c1")
    assert os.path.isdir(folder)


def test_mounts_are_seen() -> None:
    assert store._mount_below("/proc") == "/proc"
    assert store._mount_below("/nosuch") == ""
