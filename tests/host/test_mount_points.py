"""Mount points that are made in a root file system of the host. Needs root."""

import logging
import os
import stat
from pathlib import Path

import pytest

from katapy.storage.mount_points import MountPoints, make

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    made = tmp_path / "rootfs"
    made.mkdir()
    made.chmod(0o555)
    (tmp_path / "outside").mkdir()
    return made


def points(*directories: str, files: tuple[str, ...] = ()) -> MountPoints:
    return MountPoints(directories, files, 100_000, 200_000)


def test_what_is_missing_belongs_to_root_of_the_container(rootfs: Path) -> None:
    (rootfs / "etc").mkdir(mode=0o700)
    make(str(rootfs), points("/run/a", "/etc", files=("/etc/new/hosts",)))
    made = {name: (rootfs / name).stat() for name in ("run", "run/a", "etc/new", "etc/new/hosts")}
    assert {(s.st_uid, s.st_gid) for s in made.values()} == {(100_000, 200_000)}
    assert [oct(stat.S_IMODE(s.st_mode)) for s in made.values()] == ["0o755", "0o755", "0o755", "0o644"]
    assert (rootfs / "etc/new/hosts").is_file()
    assert (rootfs / "etc").stat().st_uid == os.geteuid()


@pytest.mark.parametrize("target", ["../outside", "/outside", "/../../outside", "/proc/self/root"])
def test_no_link_leads_out(rootfs: Path, target: str, caplog: pytest.LogCaptureFixture) -> None:
    (rootfs / "link").symlink_to(target)
    with caplog.at_level(logging.WARNING):
        make(str(rootfs), points("/link/x", "/after"))
    assert "can't make the mount point /link/x" in caplog.text
    assert not list((rootfs.parent / "outside").iterdir())
    assert (rootfs / "after").is_dir()


def test_links_inside_are_those_of_the_container(rootfs: Path) -> None:
    (rootfs / "run").mkdir()
    (rootfs / "var").mkdir()
    (rootfs / "var/run").symlink_to("/run")
    make(str(rootfs), points("/var/run/x"))
    assert (rootfs / "run/x").is_dir()
