"""Block devices of the host in containers: as the rules say, and gone with the container. One pod."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from framework.bundle import FOREVER, Spec, privileged
from framework.fixtures import BundleMaker
from framework.loop import Loop, loop_device
from framework.pod import Pod
from framework.runtime import Container, Runtime, owner_of

pytestmark = pytest.mark.guest
MIB = 1024 * 1024
DENY_ALL: Spec = {"allow": False, "access": "rwm"}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """4 MiB of zeros."""
    with loop_device(tmp_path_factory.mktemp("raw") / "disk", 4 * MIB) as device:
        yield device


@pytest.fixture(scope="module")
def formatted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """16 MiB with ext4."""
    file = tmp_path_factory.mktemp("formatted") / "disk"
    with loop_device(file, 16 * MIB, "mke2fs", "-q", "-t", "ext4", "-F") as device:
        yield device


@pytest.fixture(scope="module")
def pod(raw: Loop, formatted: Loop, module_runtime: Runtime, module_bundle: BundleMaker) -> Iterator[Pod]:
    pod = Pod(module_runtime, module_bundle)
    yield pod
    module_runtime.cleanup()  # before the devices go


def with_device(device: Loop, access: str, **more: Any) -> dict[str, Any]:
    """Changes to a bundle: the device as /dev/xvda, with that rule."""
    resources = {"devices": [DENY_ALL, device.rule(access)], **more}
    return {"linux": {"devices": [device.node("/dev/xvda")]}, "edit": lambda s: s["linux"].update(resources=resources)}


def disks(pod: Pod) -> list[str]:
    """The machine's, but for its own (/dev/vda)."""
    return [name for name in pod.sandbox.sh("ls /sys/block").split() if name.startswith("vd") and name != "vda"]


def held(pod: Pod, device: Loop) -> bool:
    """Whether QEMU has the device open."""
    folder = Path(f"/proc/{owner_of(pod.sandbox, 'qemu')}/fd")
    return any(os.readlink(entry) == device.path for entry in folder.iterdir())


def end(container: Container) -> None:
    container.kill()
    container.wait()
    container.delete()


def test_a_device_is_read_and_written_raw_and_let_go(pod: Pod, raw: Loop) -> None:
    throttle = {"throttleReadBpsDevice": [{**raw.node("/dev/xvda"), "rate": 1000 * MIB}]}
    container = pod.start(*FOREVER, **with_device(raw, "rw", blockIO=throttle))
    assert int(container.sh("blockdev --getsize64 /dev/xvda")) == 4 * MIB
    container.sh("echo written-by-guest | dd of=/dev/xvda bs=512 seek=2 conv=notrunc,fsync,sync 2>&1")
    assert raw.read(1024, 16) == b"written-by-guest"
    (name,) = disks(pod)
    number = pod.sandbox.sh(f"cat /sys/block/{name}/dev")
    assert container.sh("stat -c %t:%T /dev/xvda") == ":".join(f"{int(n):x}" for n in number.split(":"))
    assert container.sh("cat /sys/fs/cgroup/io.max").startswith(f"{number} rbps={1000 * MIB}")
    assert held(pod, raw)
    container.sh("echo late-word | dd of=/dev/xvda bs=512 seek=4 conv=notrunc,sync 2>&1")
    end(container)
    assert disks(pod) == []
    assert not held(pod, raw)
    assert raw.read(2048, 9) == b"late-word"


def test_a_device_to_read_only(pod: Pod, raw: Loop) -> None:
    container = pod.start(*FOREVER, **with_device(raw, "r"))
    before = raw.read(0, 4096)
    (name,) = disks(pod)
    assert pod.sandbox.sh(f"cat /sys/block/{name}/ro") == "1"
    assert container.exec("dd", "if=/dev/xvda", "bs=4096", "count=1").ok().stdout == before
    denied = container.exec("sh", "-c", "echo no > /dev/xvda")
    assert "not permitted" in denied.err
    end(container)
    assert raw.read(0, 4096) == before


def test_two_containers_have_one_disk(pod: Pod, raw: Loop) -> None:
    one, two = (pod.start(*FOREVER, **with_device(raw, "rw")) for _ in range(2))
    assert len(disks(pod)) == 1
    one.sh("echo for-the-other | dd of=/dev/xvda bs=512 conv=notrunc,sync 2>&1")
    assert two.sh("head -c 13 /dev/xvda") == "for-the-other"
    end(one)
    assert two.sh("head -c 13 /dev/xvda") == "for-the-other"
    end(two)
    assert disks(pod) == []


def test_a_container_mounts_it_itself(pod: Pod, formatted: Loop) -> None:
    """Where it may mount: the guest's kernel reads the file system, not the host's."""

    def edit(spec: Spec) -> None:
        privileged(spec)
        spec["linux"]["devices"] = [formatted.node("/dev/xvda")]
        spec["linux"]["resources"]["devices"].append(formatted.rule("rwm"))

    container = pod.start(*FOREVER, edit=edit)
    container.sh("mkdir /data; mount -t ext4 /dev/xvda /data; echo kept > /data/file; umount /data")
    end(container)
    assert disks(pod) == []
    again = pod.start(*FOREVER, edit=edit)
    assert again.sh("mkdir -p /data; mount -t ext4 -o ro /dev/xvda /data; cat /data/file") == "kept"
    end(again)


def test_a_mount_of_a_device_is_refused(pod: Pod, formatted: Loop) -> None:
    mount = {"destination": "/data", "type": "ext4", "source": formatted.path}
    _, refused = pod.try_create(*FOREVER, mounts=[mount])
    assert refused.status == 1
    assert f"mount of {formatted.path} to /data is not supported: mount it on the host" in refused.err


def test_a_bind_of_a_device(pod: Pod, raw: Loop) -> None:
    bind = {"destination": "/dev/xvdz", "type": "bind", "source": raw.path, "options": ["bind"]}
    rules = [DENY_ALL, raw.rule("rw")]
    container = pod.start(*FOREVER, mounts=[bind], edit=lambda s: s["linux"]["resources"].update(devices=rules))
    container.sh("echo through-a-bind | dd of=/dev/xvdz bs=512 conv=notrunc,fsync,sync 2>&1")
    assert raw.read(0, 14) == b"through-a-bind"
    end(container)


def test_a_privileged_container_gets_none_of_the_hosts_disks(pod: Pod, raw: Loop) -> None:
    """Engines list all devices of the host for it, and allow all."""

    def edit(spec: Spec) -> None:
        privileged(spec)
        spec["linux"]["devices"] = [raw.node("/dev/xvda")]

    container = pod.start(*FOREVER, edit=edit)
    assert disks(pod) == []
    assert not held(pod, raw)
    assert container.exec("head", "-c", "1", "/dev/xvda").status != 0
    end(container)


def test_a_create_that_fails_leaves_no_disk(pod: Pod, raw: Loop) -> None:
    changes = with_device(raw, "rw")
    _, failed = pod.try_create("no-such-program", **changes)
    assert failed.status != 0
    assert disks(pod) == []
    assert not held(pod, raw)


def test_more_devices_than_there_are_slots_are_refused(pod: Pod, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        devices = [stack.enter_context(loop_device(tmp_path / f"disk{n}", MIB)) for n in range(8)]
        rules = [DENY_ALL, *(device.rule("rw") for device in devices)]
        nodes = [device.node(f"/dev/x{n}") for n, device in enumerate(devices)]

        def edit(spec: Spec) -> None:
            spec["linux"]["devices"] = nodes
            spec["linux"]["resources"]["devices"] = rules

        container, failed = pod.try_create(*FOREVER, edit=edit)
        assert "no free slot for another device" in failed.err, failed
        assert container.id not in pod.runtime.ids()
        assert disks(pod) == []
