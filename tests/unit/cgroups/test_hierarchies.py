"""What is mounted, and what cgroupsPath means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katapy.cgroups.hierarchies import Hierarchy, parse_mountinfo, relative_path
from katapy.errors import SpecError

V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 master:2 - cgroup cgroup rw,memory
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
99 31 0:32 / /again rw,relatime - cgroup cgroup rw,memory
"""


def test_v1_and_hybrid() -> None:
    unified = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
    found = parse_mountinfo((V1 + unified).splitlines())
    assert found == [
        Hierarchy("/sys/fs/cgroup/memory", frozenset({"memory"}), False),
        Hierarchy("/sys/fs/cgroup/cpu,cpuacct", frozenset({"cpu", "cpuacct"}), False),
        Hierarchy("/sys/fs/cgroup/systemd", frozenset({"name=systemd"}), False),
        Hierarchy("/sys/fs/cgroup/unified", frozenset(), True),
    ]


def test_v2_and_escapes() -> None:
    line = r"30 23 0:26 / /sys/fs/c\040group rw,nosuid - cgroup2 cgroup2 rw"
    assert parse_mountinfo([line]) == [Hierarchy("/sys/fs/c group", frozenset(), True)]


@given(st.lists(st.text(alphabet="- /0:cgroup2,rw\\1", max_size=60)))
def test_garbage_never_raises(lines: list[str]) -> None:
    parse_mountinfo(lines)


@pytest.mark.parametrize(
    "path, expected",
    [
        ("", "web"),
        ("/a/b", "a/b"),
        ("a/b", "a/b"),
        ("//a/./b/", "a/b"),
        ("/a:b:c", "a:b:c"),
        ("a.slice:b:c", "a.slice:b:c"),
    ],
)
def test_paths(path: str, expected: str) -> None:
    assert relative_path(path, "web") == expected


@pytest.mark.parametrize("path", ["/a/../b", "..", "/", ".", "/a\0b"])
def test_paths_that_lead_out_are_refused(path: str) -> None:
    with pytest.raises(SpecError, match=r"linux\.cgroupsPath"):
        relative_path(path, "web")


@given(st.text(alphabet="a./:\0"))
def test_no_path_leads_out(path: str) -> None:
    try:
        parts = relative_path(path, "web").split("/")
    except SpecError:
        return
    assert parts
    assert not {"", ".", ".."} & set(parts)
