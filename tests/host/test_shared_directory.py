"""The shared directory on a real kernel, each test in a child with a mount namespace of its own. Needs root."""

import os
import stat
from pathlib import Path

import pytest
from framework.forked import isolated

from katapy.errors import HostError, Unsupported
from katapy.linux import mount
from katapy.storage.shared_directory import Bind, ReadOnly, SharedDirectory, enter_private_mounts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def options(path: str) -> set[str]:
    with open("/proc/self/mountinfo") as f:
        lines = [line.split() for line in f]
    return {o for line in lines if line[4] == path for o in line[5].split(",")}


def test_binds_show_the_sources_and_the_top_is_readonly(tmp_path: Path) -> None:
    (tmp_path / "rootfs/etc").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "file").write_text("one")

    def run() -> None:
        shared = SharedDirectory(str(tmp_path / "shared"))
        assert shared.add_rootfs("c1", str(tmp_path / "rootfs")) == "/run/katapy/shared/c1/rootfs"
        assert (
            shared.add_mount("c1", 3, Bind(str(tmp_path / "data"), ReadOnly.NO, True))
            == "/run/katapy/shared/c1/mounts/3"
        )
        shared.add_mount("c1", 4, Bind(str(tmp_path / "file"), ReadOnly.ALL, False))
        top = tmp_path / "shared"
        (top / "c1/rootfs/etc/hosts").write_text("x")
        (top / "c1/mounts/3/new").write_text("x")
        assert (top / "c1/mounts/4").read_text() == "one"
        for refused in ("x", "c1/x", "c1/mounts/x"):
            with pytest.raises(OSError, match="Read-only"):
                (top / refused).mkdir()
        with pytest.raises(OSError, match="Read-only"):
            (top / "c1/mounts/4").write_text("two")
        assert {"nodev", "nosuid", "ro"} <= options(f"{top}/c1/mounts/4")
        assert {"nodev", "nosuid", "rw"} <= options(f"{top}/c1/mounts/3")

    isolated(run)
    assert (tmp_path / "rootfs/etc/hosts").exists()
    assert (tmp_path / "data/new").exists()
    assert options(str(tmp_path / "shared")) == set(), "mounts must not be seen outside"


def test_readonly_holds_for_mounts_below(tmp_path: Path) -> None:
    (tmp_path / "data/sub").mkdir(parents=True)

    def run() -> None:
        mount.mount("none", str(tmp_path / "data/sub"), "tmpfs")
        shared = SharedDirectory(str(tmp_path / "shared"))
        shared.add_mount("c", 0, Bind(str(tmp_path / "data"), ReadOnly.ALL, True))
        shared.add_mount("c", 1, Bind(str(tmp_path / "data"), ReadOnly.NO, False))
        with pytest.raises(OSError, match="Read-only"):
            (tmp_path / "shared/c/mounts/0/sub/x").mkdir()
        (tmp_path / "data/sub/x").mkdir()
        assert not (tmp_path / "shared/c/mounts/1/sub/x").exists()

    isolated(run)


def test_a_container_goes_without_its_sources(tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "rootfs/kept").write_text("x")
    (tmp_path / "file").write_text("x")

    def run() -> None:
        shared = SharedDirectory(str(tmp_path / "shared"))
        for _ in range(2):
            shared.add_rootfs("c", str(tmp_path / "rootfs"))
            shared.add_mount("c", 0, Bind(str(tmp_path / "file"), ReadOnly.NO, False))
            shared.remove_container("c")
            shared.remove_container("c")
            assert list((tmp_path / "shared").iterdir()) == []
        shared.add_rootfs("d", str(tmp_path / "rootfs"))
        shared.close()
        shared.close()
        assert not (tmp_path / "shared").exists()

    isolated(run)
    assert (tmp_path / "rootfs/kept").exists()
    assert (tmp_path / "file").exists()


def test_later_mounts_of_the_host_and_of_ours_reach_a_slave(tmp_path: Path) -> None:
    """As virtiofsd has it: a namespace made before the container was added."""
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "rootfs/kept").write_text("x")

    def run() -> None:
        shared = SharedDirectory(str(tmp_path / "shared"))
        ready, go = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            enter_private_mounts()
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            os._exit(0 if (tmp_path / "shared/c/rootfs/kept").exists() else 1)
        os.read(ready[0], 1)
        shared.add_rootfs("c", str(tmp_path / "rootfs"))
        os.write(go[1], b"x")
        assert os.waitpid(pid, 0)[1] == 0

    isolated(run)


def test_what_a_guest_could_do_nothing_with_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    def run() -> None:
        shared = SharedDirectory(str(tmp_path / "shared"))
        with pytest.raises(Unsupported, match="only files and directories"):
            shared.add_mount("c", 0, Bind(str(tmp_path / "fifo"), ReadOnly.NO, False))
        with pytest.raises(Unsupported, match="/dev/null"):
            shared.add_mount("c", 1, Bind("/dev/null", ReadOnly.NO, False))
        with pytest.raises(HostError, match="can't share /nosuch: no such file or directory"):
            shared.add_mount("c", 2, Bind("/nosuch", ReadOnly.NO, False))
        with pytest.raises(ValueError, match="container id"):
            shared.add_rootfs("../c", str(tmp_path))
        assert stat.S_ISDIR((tmp_path / "shared").stat().st_mode)
        shared.remove_container("c")

    isolated(run)
