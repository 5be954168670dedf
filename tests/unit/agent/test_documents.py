"""What the agent reads of requests before crun sees them."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katapy.agent.documents import (
    cgroup_path,
    check_huge_pages,
    check_id,
    check_sub_cgroup,
    parse_object,
    wants_terminal,
)
from katapy.errors import SpecError, Unsupported


@given(st.text(max_size=20))
def test_an_id_that_passes_is_a_file_name(value: str) -> None:
    try:
        check_id("id", value)
    except SpecError:
        return
    assert value not in ("", ".", "..")
    assert "/" not in value
    assert "\0" not in value
    assert value.isascii()


@pytest.mark.parametrize("value", ["a", "a.b", "..a", "A_b+c-d", "x" * 200])
def test_good_ids(value: str) -> None:
    assert check_id("id", value) == value


@pytest.mark.parametrize("value", ["", ".", "..", "a/b", "a b", "a\n", "x" * 201, "é"])
def test_bad_ids(value: str) -> None:
    with pytest.raises(SpecError):
        check_id("id", value)


@given(st.binary(max_size=100))
def test_any_bytes_are_an_object_or_an_error(data: bytes) -> None:
    try:
        assert isinstance(parse_object("thing", data), dict)
    except SpecError:
        pass


def test_nesting_without_end_is_an_error() -> None:
    with pytest.raises(SpecError):
        parse_object("thing", b'{"a":' * 200_000)


def test_terminal() -> None:
    assert wants_terminal({"terminal": True})
    others: list[Any] = [{"terminal": False}, {"terminal": 1}, {}, None, []]
    for other in others:
        assert not wants_terminal(other)


def test_cgroup_path() -> None:
    assert cgroup_path({"linux": {"cgroupsPath": "/katapy/c1"}}, "c1") == "/katapy/c1"
    for path in (None, "", "/katapy", "/katapy/", "/katapy/../agent", "/agent/x", "katapy/c1", 7, "/katapy/c1/"):
        with pytest.raises(SpecError):
            cgroup_path({"linux": {"cgroupsPath": path}}, "c1")
    with pytest.raises(SpecError):
        cgroup_path({"linux": None}, "c1")


def test_sub_cgroup() -> None:
    for path in ("", "a", "a/b", "..a"):
        check_sub_cgroup(path)
    for path in ("/a", "..", ".", "../a", "a/../../b", "a//b", "a/"):
        with pytest.raises(SpecError):
            check_sub_cgroup(path)


@pytest.mark.parametrize("count, refused", [("0\n", True), ("8\n", False)])
def test_a_hugetlbfs_takes_huge_pages(tmp_path: Path, count: str, refused: bool) -> None:
    (tmp_path / "hugepages-2048kB").mkdir()
    (tmp_path / "hugepages-2048kB/nr_hugepages").write_text(count)
    check_huge_pages({"mounts": [{"type": "tmpfs", "destination": "/tmp"}]}, str(tmp_path))
    with pytest.raises(Unsupported, match="/huge is not supported") if refused else contextlib.nullcontext():
        check_huge_pages({"mounts": [{"type": "hugetlbfs", "destination": "/huge"}]}, str(tmp_path))
