"""A source that several containers bind is one share, with the rights that each of its mounts has. With real mounts."""

import ctypes
import dataclasses
import os
import signal
from pathlib import Path

import pytest
from framework.forked import isolated

from katapy.errors import HostError
from katapy.linux import mount
from katapy.storage.overlay import Overlay
from katapy.storage.shared_directory import Bind, IdMap, ReadOnly, SharedDirectory, open_tree
from katapy.storage.volumes import Volumes

GUEST = "/run/katapy/shared"
_SWAPS = 500


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("x")
    return tmp_path / "data"


def folders(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "shared"))


def test_one_share_for_all_and_gone_with_the_last(tmp_path: Path, data: Path) -> None:
    (tmp_path / "link").symlink_to(data)

    def run() -> None:
        volumes = Volumes(SharedDirectory(str(tmp_path / "shared")))
        paths = {
            volumes.add("a", Bind(str(data), ReadOnly.NO, True)),
            volumes.add("b", Bind(str(tmp_path / "link"), ReadOnly.NO, True)),
            volumes.add("b", Bind(str(data), ReadOnly.TOP, True)),
        }
        assert paths == {f"{GUEST}/@1/mounts/0"}
        volumes.drop("a")
        volumes.drop("a")
        assert folders(tmp_path) == ["@1"]
        volumes.drop("b")
        assert folders(tmp_path) == []
        assert (data / "file").exists()

    isolated(run)


def test_less_rights_never_become_more(tmp_path: Path, data: Path) -> None:
    def run() -> None:
        volumes = Volumes(SharedDirectory(str(tmp_path / "shared")))
        readonly = volumes.add("a", Bind(str(data), ReadOnly.TOP, True))
        all_readonly = volumes.add("a", Bind(str(data), ReadOnly.ALL, True))
        writable = volumes.add("b", Bind(str(data), ReadOnly.NO, True))
        assert len({readonly, all_readonly, writable}) == 3
        for number, allowed in ((1, False), (2, False), (3, True)):
            place = tmp_path / f"shared/@{number}/mounts/0/new{number}"
            if allowed:
                place.write_text("x")
            else:
                with pytest.raises(OSError, match="Read-only"):
                    place.write_text("x")

    isolated(run)


def test_a_read_only_mount_of_the_host_keeps_its_rights(tmp_path: Path, data: Path) -> None:
    """And so does the writable one of the same directory."""
    (tmp_path / "view").mkdir()

    def run() -> None:
        mount.mount(str(data), str(tmp_path / "view"), "", mount.MS_BIND)
        flags = mount.MS_REMOUNT | mount.MS_BIND | mount.MS_RDONLY | mount.MS_NOEXEC
        mount.mount("none", str(tmp_path / "view"), "", flags)
        volumes = Volumes(SharedDirectory(str(tmp_path / "shared")))
        for first, second in (("view", "data"), ("data", "view")):
            one = volumes.add("a", Bind(str(tmp_path / first), ReadOnly.NO, True))
            other = volumes.add("b", Bind(str(tmp_path / second), ReadOnly.NO, True))
            assert one != other
            view = one if first == "view" else other
            place = tmp_path / "shared" / view.removeprefix(f"{GUEST}/")
            with pytest.raises(OSError, match="Read-only"):
                (place / "new").write_text("x")
            volumes.drop("a")
            volumes.drop("b")

    isolated(run)


def test_a_replaced_file_is_another_one(tmp_path: Path, data: Path) -> None:
    """As with a bind mount of runc: who has it keeps the old one, who comes later gets the new one."""

    def run() -> None:
        volumes = Volumes(SharedDirectory(str(tmp_path / "shared")))
        old = volumes.add("a", Bind(str(data / "file"), ReadOnly.TOP, False))
        (data / "new").write_text("y")
        (data / "new").rename(data / "file")
        new = volumes.add("b", Bind(str(data / "file"), ReadOnly.TOP, False))
        assert old != new
        assert (tmp_path / "shared/@1/mounts/0").read_text() == "x"
        assert (tmp_path / "shared/@2/mounts/0").read_text() == "y"

    isolated(run)


def test_a_tree_is_shared_whatever_its_path_has_become(tmp_path: Path, data: Path) -> None:
    def run() -> None:
        volumes = Volumes(SharedDirectory(str(tmp_path / "shared")))
        tree = open_tree(str(data), True)
        data.rename(tmp_path / "moved")
        data.symlink_to("/etc")
        volumes.add("a", Bind(str(data), ReadOnly.NO, True, tree))
        assert os.listdir(tmp_path / "shared/@1/mounts/0") == ["file"]

    isolated(run)


def test_an_overlay_keeps_its_changes_apart(tmp_path: Path, data: Path) -> None:
    for name in ("upper", "work", "second"):
        (tmp_path / name).mkdir()
    lower = (str(data), str(tmp_path / "second"))
    overlay = Overlay(lower, str(tmp_path / "upper"), str(tmp_path / "work"), ("index=off",))

    def run() -> None:
        volumes = Volumes(SharedDirectory(str(tmp_path / "shared")))
        volumes.add("a", Bind("overlay", ReadOnly.NO, False, overlay=overlay))
        place = tmp_path / "shared/@1/mounts/0"
        (place / "file").write_text("changed")
        assert [(d / "file").read_text() for d in (place, data, tmp_path / "upper")] == ["changed", "x", "changed"]
        volumes.add("a", Bind("overlay", ReadOnly.NO, False, overlay=Overlay(lower, "", "", ())))
        with pytest.raises(OSError, match="Read-only"):
            (tmp_path / "shared/@2/mounts/0/new").touch()
        volumes.drop("a")
        assert folders(tmp_path) == []

    isolated(run)


@pytest.mark.parametrize("lower, upper", [("data/file", ""), ("data", "nowhere"), ("data/sub", "")])
def test_an_overlay_that_cant_be_is_an_error(tmp_path: Path, data: Path, lower: str, upper: str) -> None:
    """No directory, nothing there, and one that the pod may change."""
    (data / "sub").mkdir()
    other = str(tmp_path / upper) if upper else ""
    overlay = Overlay((str(tmp_path / lower),), other, other, ())

    def run() -> None:
        volumes = Volumes(SharedDirectory(str(tmp_path / "shared")))
        volumes.add("a", Bind(str(data), ReadOnly.NO, True))
        with pytest.raises(HostError, match="can't share"):
            volumes.add("b", Bind("overlay", ReadOnly.NO, False, overlay=overlay))
        assert folders(tmp_path) == ["@1"]

    isolated(run)


def test_a_link_that_swaps_leads_nowhere(tmp_path: Path, data: Path) -> None:
    """A container that may write to `data` swaps `data/sub` for a link to the host's files, while others bind it."""
    outside, spare = tmp_path / "outside", data / "spare"
    outside.mkdir()
    (data / "sub").mkdir()
    spare.symlink_to(outside)
    libc = ctypes.CDLL(None)
    ends = [os.fsencode(path) for path in (data / "sub", spare)]

    def exchange() -> None:
        assert libc.renameat2(-100, ends[0], -100, ends[1], 2) == 0  # RENAME_EXCHANGE

    def run() -> None:
        volumes = Volumes(SharedDirectory(str(tmp_path / "shared")))
        volumes.add("a", Bind(str(data), ReadOnly.NO, True))
        sub = str(data / "sub")
        volumes.add("b", Bind(sub, ReadOnly.NO, True))
        volumes.drop("b")
        exchange()
        with pytest.raises(HostError, match="is the pod's to change"):
            volumes.add("b", Bind(sub, ReadOnly.NO, True))
        swapper = os.fork()
        if swapper == 0:
            while True:
                exchange()
        try:
            for number in range(_SWAPS):
                try:
                    path = volumes.add(f"b{number}", Bind(sub, ReadOnly.NO, True))
                except HostError:
                    continue
                (tmp_path / "shared" / path.removeprefix(f"{GUEST}/") / f"new{number}").touch()
                volumes.drop(f"b{number}")
        finally:
            os.kill(swapper, signal.SIGKILL)
            os.waitpid(swapper, 0)

    isolated(run)
    assert os.listdir(outside) == []


def test_a_link_leads_nowhere_by_whatever_name_its_volume_is_called(tmp_path: Path, data: Path) -> None:
    """As /var/run and /run are two names of one directory."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "alias").symlink_to(".")
    (tmp_path / "inside").symlink_to(data)
    (tmp_path / "bound").mkdir()
    (data / "good").mkdir()

    def run() -> None:
        mount.mount(str(data), str(tmp_path / "bound"), "", mount.MS_BIND)
        volumes = Volumes(SharedDirectory(str(tmp_path / "shared")))
        volumes.add("a", Bind(str(tmp_path / "alias/data"), ReadOnly.NO, False))
        (data / "sub").symlink_to(tmp_path / "secret")
        for name in ("data", "alias/data", "alias//./data", "inside", "bound"):
            volumes.add("b", Bind(f"{tmp_path}/{name}/good", ReadOnly.NO, False))
            with pytest.raises(HostError, match="the pod's to change"):
                volumes.add("b", Bind(f"{tmp_path}/{name}/sub", ReadOnly.NO, False))

    isolated(run)


def test_a_link_that_an_ended_container_left_leads_nowhere(tmp_path: Path, data: Path) -> None:
    """But a source that has nothing to do with its volume any more is what it is."""
    for folder in ("secret", "other"):
        (tmp_path / folder / "sub").mkdir(parents=True)
    (tmp_path / "alias").symlink_to(".")

    def run() -> None:
        volumes = Volumes(SharedDirectory(str(tmp_path / "shared")))
        volumes.add("init", Bind(str(data), ReadOnly.NO, True))
        (data / "sub").symlink_to(tmp_path / "secret/sub")
        volumes.drop("init")
        for name in ("data/sub", "alias/data/sub"):
            with pytest.raises(HostError, match="the pod's to change"):
                volumes.add("b", Bind(str(tmp_path / name), ReadOnly.NO, True))
        assert folders(tmp_path) == []
        volumes.add("b", Bind(str(data), ReadOnly.NO, True))
        volumes.drop("b")
        data.rename(tmp_path / "moved")
        data.symlink_to(tmp_path / "other")
        volumes.add("b", Bind(str(data / "sub"), ReadOnly.NO, True))

    isolated(run)


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def run() -> None:
        volumes = Volumes(SharedDirectory(str(tmp_path / "shared")))
        with pytest.raises(HostError, match="no such file"):
            volumes.add("a", Bind("/nosuch", ReadOnly.NO, True))
        assert folders(tmp_path) == []

    isolated(run)


def test_mapped_ids_are_a_share_of_their_own(tmp_path: Path, data: Path) -> None:
    for folder in (data / "below", tmp_path / "other"):
        folder.mkdir()
    inside = IdMap(((0, 100_000, 10),), ((0, 200_000, 10),), False)

    def run() -> None:
        mount.mount(str(tmp_path / "other"), str(data / "below"), flags=mount.MS_BIND)
        volumes = Volumes(SharedDirectory(str(tmp_path / "shared")))
        plain = volumes.add("a", Bind(str(data), ReadOnly.NO, True))
        mapped = volumes.add("a", Bind(str(data), ReadOnly.NO, True, None, inside))
        assert volumes.add("b", Bind(str(data), ReadOnly.NO, True, None, inside)) == mapped != plain
        shown = [tmp_path / "shared" / path.removeprefix(f"{GUEST}/") for path in (plain, mapped)]
        assert [owner(folder / "file") for folder in shown] == [(0, 0), (100_000, 200_000)]
        assert owner(shown[1] / "below") == (0, 0)
        deep = volumes.add("a", Bind(str(data), ReadOnly.NO, True, None, dataclasses.replace(inside, recursive=True)))
        assert owner(tmp_path / "shared" / deep.removeprefix(f"{GUEST}/") / "below") == (100_000, 200_000)
        os.chown(shown[1] / "file", 100_003, 200_004)
        assert owner(data / "file") == (3, 4)

    isolated(run)


def owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


def test_mappings_that_the_kernel_refuses_are_an_error(tmp_path: Path, data: Path) -> None:
    twice = IdMap(((0, 1, 10), (0, 20, 10)), ((0, 1, 10),), False)

    def run() -> None:
        volumes = Volumes(SharedDirectory(str(tmp_path / "shared")))
        with pytest.raises(HostError, match=r"can't map the ids of the mount of .*data: invalid argument"):
            volumes.add("a", Bind(str(data), ReadOnly.NO, False, None, twice))
        assert folders(tmp_path) == []

    isolated(run)
