"""What `podman run`'s flags promise about files, privileges and limits. One machine for all of it."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from framework.podman import IMAGE, Box, Podman

_NO_MKDIR = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "args": []}],
}
_INIT = "grep CapEff /proc/1/status; exec sleep 1000000"
_NET_BIND_SERVICE = 10


@dataclass(frozen=True)
class Fenced:
    """A container, and the folder of the host whose `rw`, `ro`, `over`, `file` and `file-ro` are in its root, too."""

    box: Box
    host: Path


@pytest.fixture(scope="module")
def fenced(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Fenced:
    host = tmp_path_factory.mktemp("volumes")
    for name in ("rw", "ro", "over"):
        (host / name).mkdir()
        (host / name / "old").write_text("old\n")
    for name in ("file", "file-ro"):
        (host / name).write_text("old\n")
    (host / "profile.json").write_text(json.dumps(_NO_MKDIR))
    flags = ["--read-only", "--tmpfs=/scratch:size=1m", "--cap-drop=all", "--cap-add=net_bind_service"]
    flags += [f"--volume={host}/rw:/rw", f"--volume={host}/ro:/ro:ro", f"--volume={host}/over:/over:O"]
    flags += [f"--mount=type=image,src={IMAGE},dst=/image"]
    flags += [f"--volume={host}/file:/file", f"--volume={host}/file-ro:/file-ro:ro"]
    flags += [f"--security-opt=seccomp={host}/profile.json", "--memory=64m", "--cpus=0.5", "--pids-limit=33"]
    return Fenced(podman.detached(*flags, IMAGE, "sh", "-c", _INIT), host)


def test_the_root_is_read_only(fenced: Fenced) -> None:
    done = fenced.box.exec("touch", "/new")
    assert done.status == 1
    assert "Read-only file system" in done.err


def test_a_tmpfs_is_writable_and_as_large_as_said(fenced: Fenced) -> None:
    fenced.box.sh("echo x > /scratch/x")
    assert fenced.box.exec("dd", "if=/dev/zero", "of=/scratch/big", "bs=1M", "count=2").status == 1
    fenced.box.sh("rm /scratch/big")


def test_a_folder_shows_writes_at_once_on_both_sides(fenced: Fenced) -> None:
    fenced.box.sh("echo inside > /rw/inside")
    assert (fenced.host / "rw/inside").read_text() == "inside\n"
    (fenced.host / "rw/outside").write_text("outside\n")
    assert fenced.box.sh("cat /rw/outside") == "outside"


def test_a_file_shows_writes_at_once_on_both_sides(fenced: Fenced) -> None:
    fenced.box.sh("echo inside >> /file")
    assert (fenced.host / "file").read_text() == "old\ninside\n"
    with (fenced.host / "file").open("a") as file:
        file.write("outside\n")
    assert fenced.box.sh("cat /file") == "old\ninside\noutside"


def test_an_overlay_keeps_its_changes_from_the_folder(fenced: Fenced) -> None:
    assert fenced.box.sh("echo inside >> /over/old; touch /over/new; cat /over/old") == "old\ninside"
    assert [(p.name, p.read_text()) for p in (fenced.host / "over").iterdir()] == [("old", "old\n")]


def test_an_image_can_be_a_volume(fenced: Fenced) -> None:
    assert fenced.box.sh("cat /image/etc/group") == fenced.box.sh("cat /etc/group")


@pytest.mark.parametrize("path", ["/ro/old", "/ro/new", "/file-ro"])
def test_a_read_only_volume_is_not_written(fenced: Fenced, path: str) -> None:
    done = fenced.box.exec("sh", "-c", f"echo no > {path}")
    assert done.status == 1
    assert "Read-only file system" in done.err


def test_a_read_only_volume_is_read(fenced: Fenced) -> None:
    assert fenced.box.sh("cat /ro/old /file-ro") == "old\nold"


def test_init_has_the_capabilities_that_are_left(fenced: Fenced) -> None:
    assert fenced.box.wait_logs("\n").split() == ["CapEff:", f"{1 << _NET_BIND_SERVICE:016x}"]


def test_exec_has_no_more_capabilities_than_init(fenced: Fenced) -> None:
    effective = fenced.box.sh("grep CapEff /proc/self/status").split()[1]
    assert int(effective, 16) == 1 << _NET_BIND_SERVICE


def test_the_seccomp_profile_holds(fenced: Fenced) -> None:
    done = fenced.box.exec("mkdir", "/scratch/folder")
    assert done.status == 1
    assert "Operation not permitted" in done.err


@pytest.mark.guest  # elsewhere the files are those of the host's version of cgroups
@pytest.mark.parametrize(
    "file, content", [("memory.max", str(64 << 20)), ("cpu.max", "50000 100000"), ("pids.max", "33")]
)
def test_limits_are_in_the_containers_cgroup(fenced: Fenced, file: str, content: str) -> None:
    assert fenced.box.sh(f"cat /sys/fs/cgroup/{file}") == content


def test_no_network_but_itself(fenced: Fenced) -> None:
    assert fenced.box.sh("ls /sys/class/net") == "lo"
