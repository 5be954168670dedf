"""Templates on disk: whole or not there, whoever is killed when."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from katapy.errors import HostError, Timeout
from katapy.factory.store import RETRY_S, Store

KEY = "0123456789abcdef"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "templates"))


def make(store: Store, key: str = KEY, used: float | None = None) -> str:
    with store.lock(key, 1), store.new(key, {"memory_mib": 512, "vcpus": 1}) as folder:
        Path(folder, "memory").write_bytes(b"m" * 8192)
    path = store.find(key)
    assert path is not None
    if used is not None:
        os.utime(path, (used, used))
    return path


def test_a_template_is_found_once_it_is_whole(store: Store) -> None:
    assert store.find(KEY) is None
    assert store.templates() == []
    with store.lock(KEY, 1), store.new(KEY, {"memory_mib": 512}) as folder:
        assert store.find(KEY) is None
        assert os.stat(folder).st_mode & 0o777 == 0o700
    assert store.find(KEY) == f"{store.directory}/{KEY}"
    (template,) = store.templates()
    assert (template.key, template.description["memory_mib"]) == (KEY, 512)
    assert os.listdir(store.directory) == [KEY], "nor its lock"


def test_a_failure_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lock(KEY, 1), store.new(KEY, {}) as folder:
        Path(folder, "memory").write_bytes(bytes(1 // 0))
    assert os.listdir(store.directory) == []


def test_one_maker_at_a_time(store: Store) -> None:
    with store.lock(KEY, 1), pytest.raises(Timeout, match="somebody else"), Store(store.directory).lock(KEY, 0.1):
        raise AssertionError
    with store.lock(KEY, 1):
        pass


def _make_for_ever(directory: str, key: str) -> None:
    store = Store(directory)
    with store.lock(key, 1), store.new(key, {}) as folder:
        Path(folder, "memory").touch()
        os.mkdir(f"{folder}/machine")
        signal.pause()


@pytest.mark.parametrize("how", ["by a collection", "by the next maker"])
def test_a_killed_maker_holds_nobody_up_and_is_cleaned_up(store: Store, how: str) -> None:
    maker = multiprocessing.get_context("fork").Process(target=_make_for_ever, args=(store.directory, KEY))
    maker.start()
    deadline = time.monotonic() + 60
    while not list(Path(store.directory).glob(".new-*/machine")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    store.collect(8)
    assert list(Path(store.directory).glob(".new-*")), "it is being made"
    maker.kill()
    maker.join()
    assert store.find(KEY) is None
    if how == "by a collection":
        store.collect(8)
        assert os.listdir(store.directory) == [], "nor is its lock left"
    make(store)
    assert not list(Path(store.directory).glob(".new-*"))


def test_the_least_recently_used_go_and_the_stale_ones(store: Store) -> None:
    for n in range(5):
        make(store, f"key{n}", used=1000.0 + n)
    assert store.find("key0")  # counts as a use
    assert sorted(store.collect(3, {"key4"})) == ["key1", "key2", "key4"]
    assert [t.key for t in store.templates()] == ["key0", "key3"]
    assert store.destroy() == ["key0", "key3"]
    assert store.templates() == []


def test_a_template_is_thrown_away_once_and_then_given_up(store: Store) -> None:
    make(store)
    store.discard(KEY, "silent")
    assert (store.find(KEY), store.failure(KEY)) == (None, None)
    make(store)
    store.discard(KEY, "silent again")
    assert (store.find(KEY), store.failure(KEY)) == (None, "silent again")
    assert store.failures() == {KEY: "silent again"}
    long_ago = time.time() - RETRY_S - 1
    os.utime(f"{store.directory}/{KEY}.failed", (long_ago, long_ago))
    assert store.failure(KEY) is None


def test_a_failure_is_forgotten_when_somebody_asks_or_succeeds(store: Store) -> None:
    make(store, "other")
    store.mark_failed(KEY, "no memory")
    store.forget_failure(KEY)
    assert store.failure(KEY) is None
    store.mark_failed(KEY, "no memory")
    make(store)
    assert store.failure(KEY) is None


def test_what_can_t_be_read_is_no_template(store: Store) -> None:
    path = make(store)
    Path(path, "template.json").write_text(json.dumps([]))
    assert store.templates() == []
    Path(store.directory, f"{KEY}.failed").write_text("{")
    assert store.failure(KEY) == "unknown"


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = Store(str(tmp_path / "file"))
    with pytest.raises(HostError, match="can't keep templates"), store.lock(KEY, 1):
        raise AssertionError
    with pytest.raises(HostError, match="not a directory"):
        store.find(KEY)
