"""root of the guest, its kernel included: a container that shares the machine's pid namespace and may do everything.

/proc/1/root is then the machine itself, as whoever breaks out of a container in the guest has it. What it can reach of
the host is the share and no more.
"""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from framework import processes
from framework.bundle import Spec, privileged
from framework.fixtures import IMAGE, BundleMaker
from framework.runtime import Container, Runtime
from framework.snapshot import snapshot

GUEST = "/proc/1/root"
SHARE = f"{GUEST}/run/katapy/shared"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(scope="module")
def readonly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readonly")
    (folder / "file").write_text("as it was")
    return folder


@pytest.fixture(scope="module")
def root(module_runtime: Runtime, module_bundle: BundleMaker, readonly: Path) -> Container:
    def edit(spec: Spec) -> None:
        privileged(spec)
        spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] not in ("pid", "cgroup")]
        spec["mounts"].append(
            {"destination": "/ro", "type": "bind", "source": str(readonly), "options": ["rbind", "ro"]}
        )

    container = module_runtime.start(module_bundle(edit=edit))
    assert "shared" in container.sh(f"ls {GUEST}/run/katapy")  # or nothing below would prove anything
    return container


def names_in_the_share(root: Container) -> list[str]:
    """What is below the container's and the volume's folder; there is no third."""
    folders = root.sh(f"ls {SHARE}").split()
    assert sorted(folders, key=lambda name: name[0] == "@") == [root.id, folders[0]]
    return sorted(root.sh(f"ls {SHARE}/{root.id}; ls {SHARE}/{folders[0]}").split())


def test_the_top_of_the_share_cannot_be_changed(root: Container) -> None:
    id = root.id
    volume = root.sh(f"ls -d {SHARE}/@*")
    places = (SHARE, f"{SHARE}/{id}", volume, f"{volume}/mounts")
    assert names_in_the_share(root) == ["mounts", "rootfs"]
    attempts = [
        attempt
        for place in places
        for attempt in (
            f"mkdir {place}/x", f"ln -s / {place}/y", f"touch {place}/z", f"mknod {place}/n b 8 0",
            f"mkfifo {place}/f", f"chmod 777 {place}", f"chown 1:1 {place}",
        )
    ]  # fmt: skip
    attempts += [
        f"mv {SHARE}/{id} {SHARE}/other", f"mv {SHARE}/{id}/rootfs {SHARE}/{id}/r", f"rmdir {volume}/mounts",
        f"rmdir {SHARE}/{id}/rootfs", f"rm -r {volume}/mounts", f"ln {SHARE}/{id}/rootfs/etc/passwd {SHARE}/l",
    ]  # fmt: skip
    script = "; ".join(f"({attempt}) 2>/dev/null && echo '{attempt}'" for attempt in attempts)
    assert root.sh(f"{script}; true") == ""
    assert names_in_the_share(root) == ["mounts", "rootfs"]


def test_mounting_the_share_again_gives_no_more(root: Container, readonly: Path) -> None:
    """Which part of the share the second mount shows is the guest kernel's choice: all of it must withstand."""
    script = """
        mkdir -p /tmp/again
        mount -t virtiofs katapy.shared /tmp/again || mount -t 9p katapy.shared /tmp/again || exit 0
        mount -o remount,rw /tmp/again
        mkdir /tmp/again/new; ln -s / /tmp/again/link; echo x > /tmp/again/file; chmod 777 /tmp/again
        rm -r /tmp/again/new /tmp/again/link /tmp/again/file
        umount /tmp/again
    """
    before = snapshot(readonly)
    root.exec("sh", "-c", f"({script}) >/dev/null 2>&1")
    assert snapshot(readonly) == before
    assert names_in_the_share(root) == ["mounts", "rootfs"]


def test_a_read_only_bind_stays_unwritten(root: Container, readonly: Path) -> None:
    places = root.sh(f"ls -d {SHARE}/@*/mounts/0").split()
    assert len(places) == 1
    before = snapshot(readonly)
    for place in ("/ro", *places):
        attempts = (
            f"mount -o remount,rw {place}", f"mount -o remount,bind,rw {place}", f"echo changed > {place}/file",
            f"rm {place}/file", f"touch {place}/new", f"chmod 777 {place}/file", f"mv {place}/file {place}/moved",
            f"mkdir -p /tmp/b && mount --bind {place} /tmp/b && mount -o remount,rw,bind /tmp/b; touch /tmp/b/new",
            f"mkdir -p /tmp/o && mount -t overlay -o lowerdir={place},upperdir={place},workdir={place} o /tmp/o",
        )  # fmt: skip
        root.sh("; ".join(f"({attempt}) 2>/dev/null" for attempt in attempts) + "; true")
        assert snapshot(readonly) == before, place


def test_the_image_is_not_written_whatever_is_written_to(root: Container) -> None:
    files = [IMAGE.parent / name for name in ("rootfs.erofs", "initrd", "vmlinux")]
    before = [(sha256(path), path.stat().st_mtime_ns) for path in files]
    root.sh(
        "for device in /sys/class/block/*; do IFS=: read major minor < $device/dev;"
        " rm -f /dev/disk0; mknod /dev/disk0 b $major $minor;"
        " dd if=/dev/zero of=/dev/disk0 bs=4096 count=64 2>/dev/null; done; sync; true"
    )
    root.exec("sh", "-c", f"mount -o remount,rw {GUEST}; echo x > {GUEST}/usr/bin/crun; echo x > /proc/1/exe")
    assert [(sha256(path), path.stat().st_mtime_ns) for path in files] == before
    assert root.sh("echo well") == "well"  # and the agent is what it was


def test_symlinks_of_the_guest_lead_nowhere_on_the_host(root: Container, canary: Path) -> None:
    """What Podman does for `cp`: enters the stand-in's mount namespace, and goes by the container's paths."""
    root.sh(f"ln -s {canary} /escape; ln -s ../../../../../../../../../..{canary} /climb; ln -s /proc/1/root /self")
    for path in ("/escape/secret", "/climb/secret", f"/self{canary}/secret"):
        argv = ["nsenter", f"--mount=/proc/{root.pid}/ns/mnt", "--", "/bin/cat", path]
        done = subprocess.run(argv, capture_output=True, timeout=90, check=False)
        assert done.returncode != 0
        assert b"of the host" not in done.stdout
    assert (root.bundle.rootfs / "escape").is_symlink()
    assert root.exec("cat", "/escape/secret").status != 0
    root.sh("rm /escape /climb /self")


def test_device_nodes_of_the_guest_open_nothing_through_the_share(root: Container) -> None:
    """They can be made, as with runc, and are files; the daemon's view of them is nodev (CVE-2020-35517)."""
    ours = (p for p in processes.descendants(os.getpid()) if f"{root.id}/shared" in p.command)
    pids = [p.pid for p in ours if "virtiofsd" in p.command]
    if not pids:
        pytest.skip("the share is not virtio-fs here")
    root.sh("mknod /zero c 1 5; mknod /disk b 254 0")
    for name in ("zero", "disk"):
        with pytest.raises(PermissionError):
            os.open(f"/proc/{pids[0]}/root/{root.id}/rootfs/{name}", os.O_RDONLY | os.O_NONBLOCK)
    root.sh("rm /zero /disk")


def test_odd_names_and_deep_trees_do_no_harm(root: Container) -> None:
    root.sh(
        r"""
        mkdir /odd && cd /odd
        touch -- "$(printf 'new\nline')" "$(printf '\033[2J')" "$(printf '\377\376')" 'a,b=c:d' ' ' '-rf' '%s%n'
        touch "$(head -c 255 /dev/zero | tr '\0' n)"
        dd if=/dev/zero of=sparse bs=1 count=1 seek=1099511627776 2>/dev/null
        mkfifo fifo; cp /bin/busybox suid; chmod 6755 suid
        i=0; while [ $i -lt 100 ]; do mkdir d && cd d || break; i=$((i+1)); done; true
        """,
    )
    assert len(os.listdir(root.bundle.rootfs / "odd")) == 12
    assert root.status == "running"
    root.sh("rm -rf /odd")


def test_the_channels_ports_are_taken(root: Container) -> None:
    """Whoever could open the agent's port would be its host; the boot port's message has been read."""
    opened = root.sh(
        "for name in /sys/class/virtio-ports/*; do IFS=: read major minor < $name/dev;"
        " grep -q katapy $name/name || continue; rm -f /dev/port; mknod /dev/port c $major $minor;"
        " dd if=/dev/port of=/dev/null bs=1 count=1 2>&1 | grep -q busy && echo busy || cat $name/name; done; true"
    )
    assert set(opened.split()) == {"busy"}


def test_nobody_calls_the_agent_without_the_secret(root: Container) -> None:
    """Even with the agent's socket in reach: by the guest's own Python and grpc."""
    script = (
        "import sys; sys.path[:0] = ['/usr/lib/katapy', '/usr/lib/katapy/wheels']\n"
        "import grpc\n"
        "from katapy.protocol import agent_pb2 as pb, names\n"
        "from katapy.protocol.agent_pb2_grpc import AgentStub\n"
        "for metadata in ((), ((names.SECRET_METADATA, ''),), ((names.SECRET_METADATA, '0' * 64),)):\n"
        "    with grpc.insecure_channel('unix:' + names.GUEST_AGENT_SOCKET) as channel:\n"
        "        stub = AgentStub(channel)\n"
        "        for call, request in ((stub.Hello, pb.HelloRequest()), (stub.DestroySandbox, pb.Empty())):\n"
        "            try:\n"
        "                call(request, metadata=metadata, timeout=90); print('answered')\n"
        "            except grpc.RpcError as e:\n"
        "                print(e.code().name)\n"
    )
    argv = root.sh("tr '\\0' '\\n' < /proc/1/cmdline").splitlines()
    done = root.exec("chroot", GUEST, argv[0], "-c", script, timeout=90).ok()
    assert done.out.split() == ["UNAUTHENTICATED"] * 6


def test_a_machine_that_ends_itself_is_no_success(root: Container) -> None:
    """The last of this module: root of the guest switches the machine off."""
    root.exec("sh", "-c", "echo o > /proc/sysrq-trigger; sleep 20")
    assert root.wait() == 137
    assert root.status == "stopped"
