"""A user namespace of the spec's, made in the guest: who is who, and what root of it can mount and see. Two boots."""

import os
from pathlib import Path

import pytest
from framework.bundle import BUSYBOX, Spec
from framework.fixtures import BundleMaker
from framework.runtime import Container, Runtime

FIRST, SIZE = 100_000, 65_536
EVERYBODY = 2**32 - 1


def _mapped(first: int, size: int) -> Spec:
    mappings = [{"containerID": 0, "hostID": first, "size": size}]
    return {
        "namespaces": [{"type": kind} for kind in ("user", "pid", "network", "ipc", "uts", "mount", "cgroup")],
        "uidMappings": mappings,
        "gidMappings": mappings,
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("source")
    (made / "file").touch()
    return made


@pytest.fixture(scope="module")
def mapped(module_runtime: Runtime, module_bundle: BundleMaker, source: Path) -> Container:
    mounts = [
        {"destination": "/idmapped", "type": "bind", "source": str(source), "options": ["rbind", "idmap"]},
        {"destination": "/new/tmp", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/new/file", "type": "bind", "source": str(BUSYBOX), "options": ["bind", "ro"]},
    ]
    made = module_bundle(linux=_mapped(FIRST, SIZE), mounts=mounts)
    (made.rootfs / "mine").mkdir()
    (made.rootfs / "mine").chmod(0o777)
    made.rootfs.chmod(0o555)
    return module_runtime.start(made)


def test_ids_are_mapped(mapped: Container) -> None:
    assert mapped.sh("cat /proc/self/uid_map /proc/self/gid_map").split() == ["0", str(FIRST), str(SIZE)] * 2


def test_the_host_sees_the_mapped_owner(mapped: Container) -> None:
    mapped.sh("touch /mine/file")
    found = (mapped.bundle.rootfs / "mine/file").stat()
    assert (found.st_uid, found.st_gid) == (FIRST, FIRST)


def test_mount_points_that_the_image_lacks_are_made_where_its_root_could_not(mapped: Container) -> None:
    assert mapped.sh("stat -f -c %T /new/tmp; cmp /new/file /bin/busybox && echo same").split() == ["tmpfs", "same"]
    assert (mapped.bundle.rootfs / "new/file").stat().st_uid == FIRST


def test_an_idmapped_mount_shows_the_sources_ids_inside(mapped: Container, source: Path) -> None:
    assert mapped.sh("touch /idmapped/new; stat -c %u:%g /idmapped/file /idmapped/new").split() == ["0:0", "0:0"]
    assert ((source / "new").stat().st_uid, (source / "new").stat().st_gid) == (os.geteuid(), os.getegid())


def test_sysfs_is_that_of_the_pods_network_and_read_only(mapped: Container) -> None:
    assert mapped.sh("ls /sys/class/net") == "lo"
    assert mapped("exec", "mkdir", "/sys/fs/cgroup/x").status != 0
    (sysfs,) = [line for line in mapped.sh("cat /proc/self/mountinfo").splitlines() if line.split()[4] == "/sys"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(sysfs.split()[5].split(","))
    assert sysfs.split(" - ")[1].startswith("sysfs ")


def test_every_id_can_be_mapped_and_devices_are_there(runtime: Runtime, bundle: BundleMaker) -> None:
    devices = [{"path": "/dev/foo", "type": "b", "major": 1, "minor": 5, "uid": 10, "gid": 11, "fileMode": 0o157}]
    made = bundle("sh", "-c", "stat -c %u:%g:%a /dev/foo", linux=_mapped(0, EVERYBODY) | {"devices": devices})
    assert runtime.run(made).ok().out == "10:11:157\n"
