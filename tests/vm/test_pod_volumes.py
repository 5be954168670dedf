"""What the containers of a pod mount together: writes are seen on every side, rights are each mount's own. One pod."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from framework.bundle import FOREVER, Spec
from framework.fixtures import BundleMaker
from framework.pod import Pod
from framework.runtime import Container, Runtime
from framework.wait import wait_for

pytestmark = pytest.mark.guest
END_S = 60.0
SEEN_S = 30.0
"""For what is seen at once, on a busy machine."""


def bind(source: Path, destination: str, *options: str) -> Spec:
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["rbind", *options]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On the host: `data` that two containers write to, `config` as the kubelet writes a config map."""
    folder = tmp_path_factory.mktemp("volumes")
    for name in ("data", "config/..1", "private", "kubernetes.io~empty-dir/cache", "kubernetes.io~empty-dir/logs"):
        (folder / name).mkdir(parents=True)
    (folder / "config/..1/key").write_text("one")
    (folder / "config/..data").symlink_to("..1")
    (folder / "config/key").symlink_to("..data/key")
    (folder / "single").write_text("first")
    return folder


@pytest.fixture(scope="module")
def shm(folder: Path) -> Iterator[Path]:
    """The pod's /dev/shm as engines make it."""
    yield from _tmpfs(folder / "shm", "size=3m,mode=1777")


@pytest.fixture(scope="module")
def cache(folder: Path) -> Iterator[Path]:
    """An emptyDir of medium Memory."""
    yield from _tmpfs(folder / "kubernetes.io~empty-dir/cache", "size=2m,mode=0777,uid=8,gid=12")


def _tmpfs(path: Path, options: str) -> Iterator[Path]:
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.fixture(scope="module")
def pod(module_runtime: Runtime, module_bundle: BundleMaker, shm: Path, cache: Path) -> Iterator[Pod]:
    pod = Pod(module_runtime, module_bundle, mounts=[bind(shm, "/dev/shm", "nosuid", "noexec", "nodev")])
    yield pod
    module_runtime.cleanup()  # before the mounts that it uses go


@pytest.fixture(scope="module")
def writer(pod: Pod, folder: Path, shm: Path, cache: Path) -> Container:
    mounts = [
        bind(folder / "data", "/data"), bind(folder / "config", "/config", "ro"), bind(shm, "/dev/shm", "noexec"),
        bind(cache, "/cache"), bind(folder / "kubernetes.io~empty-dir/logs", "/logs"),
    ]  # fmt: skip
    return pod.start(*FOREVER, mounts=mounts)


@pytest.fixture(scope="module")
def reader(pod: Pod, folder: Path, shm: Path, cache: Path, writer: Container) -> Container:
    """The other one; it may not write to /logs."""
    mounts = [
        bind(folder / "data", "/other"), bind(folder / "config", "/config", "ro"), bind(shm, "/dev/shm"),
        bind(cache, "/cache"), bind(folder / "kubernetes.io~empty-dir/logs", "/logs", "ro"),
        bind(folder / "private", "/private", "ro"),
    ]  # fmt: skip
    return pod.start(*FOREVER, mounts=mounts)


def test_writes_are_seen_on_every_side(writer: Container, reader: Container, folder: Path) -> None:
    writer.sh("echo from-writer > /data/file")
    assert reader.sh("cat /other/file") == "from-writer"
    assert (folder / "data/file").read_text() == "from-writer\n"
    reader.sh("echo from-reader >> /other/file")
    assert writer.sh("cat /data/file") == "from-writer\nfrom-reader"
    (folder / "data/file").write_text("from-host\n")
    wait_for("the host's word", lambda: writer.sh("cat /data/file") == "from-host", SEEN_S)
    wait_for("the host's word", lambda: reader.sh("cat /other/file") == "from-host", SEEN_S)


def test_it_is_one_directory_for_both(writer: Container, reader: Container) -> None:
    """The same inode on the same device: locks, mappings, sockets work across."""
    writer.sh("touch /data/one")
    assert writer.sh("stat -c %d:%i /data/one") == reader.sh("stat -c %d:%i /other/one")


def test_a_fifo_between_two_containers(writer: Container, reader: Container) -> None:
    writer.sh("mkfifo /data/fifo")
    reader.sh("(cat /other/fifo > /got; echo end >> /got) >/dev/null 2>&1 &")
    writer.sh("(echo through > /data/fifo) >/dev/null 2>&1 &")
    wait_for("what went through", lambda: reader.sh("cat /got") == "through\nend", SEEN_S)


def test_a_socket_between_two_containers(writer: Container, reader: Container) -> None:
    """Made by one in a volume, written to by the other: syslogd and logger, whose /dev/log may be a link."""
    writer.sh("ln -s /data/log /dev/log; (syslogd -n -O /data/messages) >/dev/null 2>&1 &")
    reader.sh("ln -s /other/log /dev/log")
    wait_for("the socket", lambda: reader.exec("test", "-S", "/other/log").status == 0, SEEN_S)
    reader.sh("logger heard-me")
    wait_for("the message", lambda: "heard-me" in writer.sh("cat /data/messages 2>/dev/null || true"), SEEN_S)


_WATCH = """
import ctypes, os
libc = ctypes.CDLL(None)
queue = libc.inotify_init()
libc.inotify_add_watch(queue, b"/other", 0x100)  # IN_CREATE
print("watching", flush=True)
print(os.read(queue, 4096)[16:].rstrip(bytes(1)).decode(), flush=True)
"""
_LOCK = """
import fcntl, time
file = open("/data/lock", "w")
fcntl.lockf(file, fcntl.LOCK_EX)
open("/data/locked", "w").close()
time.sleep(1000000)
"""
_TRY = """
import fcntl
try:
    fcntl.lockf(open("/other/lock", "w"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("taken")
"""


def test_inotify_and_locks_work_between_containers(pod: Pod, writer: Container, folder: Path) -> None:
    """Both see one inode. What the host changes is not told: docs/limitations.md. Programs are the host's Python."""

    def python(program: str, mounted: str) -> Container:
        mounts = [bind(folder / "data", mounted), bind(Path("/usr"), "/usr", "ro")]
        made = pod.create("/usr/bin/python3", "-ISc", program, mounts=mounts)
        for name in ("lib", "lib64"):
            (made.bundle.rootfs / name).symlink_to(f"usr/{name}")
        made.start()
        return made

    watcher = python(_WATCH, "/other")
    wait_for("the watch", lambda: watcher.stdout.read_text() == "watching\n", END_S)
    writer.sh("touch /data/new")
    assert watcher.wait(END_S) == 0
    assert watcher.stdout.read_text() == "watching\nnew\n"
    holder = python(_LOCK, "/data")
    wait_for("the lock", (folder / "data/locked").exists, END_S)
    other = python(_TRY, "/other")
    assert other.wait(END_S) == 0
    assert other.stdout.read_text() == "taken\n"
    for container in (watcher, holder, other):
        container.delete("--force")


def test_a_config_maps_swap_is_seen(reader: Container, folder: Path) -> None:
    assert reader.sh("cat /config/key") == "one"
    config = folder / "config"
    (config / "..2").mkdir()
    (config / "..2/key").write_text("two")
    (config / "..new").symlink_to("..2")
    (config / "..new").rename(config / "..data")
    wait_for("the new value", lambda: reader.sh("cat /config/key") == "two", SEEN_S)


def test_shared_memory_is_the_pods(pod: Pod, writer: Container, reader: Container, shm: Path) -> None:
    writer.sh("echo shared > /dev/shm/segment")
    assert reader.sh("cat /dev/shm/segment") == "shared"
    assert pod.sandbox.sh("cat /dev/shm/segment") == "shared"
    assert reader.sh("df -m /dev/shm | tail -n 1").split()[1] == "3"
    assert os.listdir(shm) == [], "the host's memory is not the guest's"
    assert "noexec" in writer.sh("grep ' /dev/shm ' /proc/mounts")


def test_an_empty_dir_in_memory_has_its_size_and_owner(writer: Container, reader: Container, cache: Path) -> None:
    writer.sh("echo cached > /cache/file")
    assert reader.sh("cat /cache/file") == "cached"
    assert reader.sh("stat -c %a:%u:%g /cache") == "777:8:12"
    assert writer.exec("dd", "if=/dev/zero", "of=/cache/big", "bs=1M", "count=3").status != 0
    writer.sh("rm /cache/big")
    assert os.listdir(cache) == []


def test_it_outlives_the_container_that_filled_it(pod: Pod, cache: Path, writer: Container) -> None:
    filler = pod.start("sh", "-c", "echo kept > /cache/kept", mounts=[bind(cache, "/cache")])
    assert filler.wait(END_S) == 0
    filler.delete()
    assert writer.sh("cat /cache/kept") == "kept"


def test_each_mount_has_its_own_rights(writer: Container, reader: Container, folder: Path) -> None:
    writer.sh("echo line > /logs/log")
    assert reader.sh("cat /logs/log") == "line"
    for place in ("/logs/log", "/config/key", "/private/new"):
        assert reader.exec("sh", "-c", f"echo x > {place}").status != 0, place
    assert os.listdir(folder / "private") == []


def test_a_single_file_that_was_replaced(pod: Pod, folder: Path) -> None:
    """Who has it mounted keeps the old one, who comes later gets the new one: as with runc."""
    mounts = [bind(folder / "single", "/etc/single", "ro")]
    old = pod.start(*FOREVER, mounts=mounts)
    (folder / "next").write_text("second")
    (folder / "next").rename(folder / "single")
    new = pod.start(*FOREVER, mounts=mounts)
    assert (old.sh("cat /etc/single"), new.sh("cat /etc/single")) == ("first", "second")
    for container in (old, new):
        container.delete("--force")


def test_what_the_host_mounts_after_the_pod_has_started(pod: Pod, folder: Path) -> None:
    """As engines mount root file systems, also where the host's mounts are private."""
    for later in _tmpfs(folder / "later", "size=1m"):
        (later / "file").write_text("late")
        container = pod.start("cat", "/later/file", mounts=[bind(later, "/later", "ro")])
        assert container.wait(END_S) == 0
        assert container.stdout.read_text() == "late"
        container.delete()


def test_a_socket_of_the_host_is_refused(pod: Pod, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        _, result = pod.try_create(*FOREVER, mounts=[bind(folder / "s", "/var/run/docker.sock")])
    assert result.status == 1
    assert "only files and directories can be shared with a guest" in result.err
