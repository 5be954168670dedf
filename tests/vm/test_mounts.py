"""Mounts and devices of the spec, in one container; what is written on either side is seen on the other."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from framework.bundle import Spec
from framework.fixtures import BundleMaker
from framework.runtime import Container, Runtime
from framework.wait import wait_for

MIB = 1024 * 1024
DEVICES = [
    {"type": "c", "path": "/dev/kettle", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 8, "gid": 12},
    {"type": "c", "path": "/dev/forbidden", "major": 10, "minor": 229, "fileMode": 0o666},
]


def bind(source: Path, destination: str, *options: str) -> Spec:
    kind = "rbind" if "rbind" in options else "bind"
    return {
        "type": "bind",
        "source": str(source),
        "destination": destination,
        "options": [kind, *(o for o in options if o != "rbind")],
    }


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory, no_leaks_of_the_module: None) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("volumes")
    for name in ("rw", "ro", "nested/inner"):
        (folder / name).mkdir(parents=True)
    (folder / "ro/file").write_text("read me")
    (folder / "file").write_text("one\n")
    (folder / "file-ro").write_text("fixed\n")
    (folder / "link").symlink_to(folder / "rw")
    inner = folder / "nested/inner"
    (inner / "below").touch()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", inner], check=True)
    yield folder
    subprocess.run(["umount", inner], check=True)


@pytest.fixture(scope="module")
def furnished(module_runtime: Runtime, module_bundle: BundleMaker, volumes: Path) -> Container:
    mounts: list[Spec] = [
        bind(volumes / "rw", "/vol/rw"),
        bind(volumes / "ro", "/vol/ro", "ro"),
        bind(volumes / "nested", "/vol/nested", "rbind", "rprivate"),
        bind(volumes / "nested", "/vol/flat"),
        bind(volumes / "file", "/vol/file"),
        bind(volumes / "file-ro", "/etc/fixed", "ro", "nosuid", "nodev"),
        bind(volumes / "link", "/vol/link"),
        {"type": "tmpfs", "source": "tmpfs", "destination": "/scratch", "options": ["size=2m", "mode=1770", "noexec"]},
    ]

    def edit(spec: Spec) -> None:
        shm = next(m for m in spec["mounts"] if m["destination"] == "/dev/shm")
        shm["options"][-1] = "size=8m"
        spec["root"]["readonly"] = True
        spec["linux"]["devices"] = DEVICES
        null = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"}
        spec["linux"]["resources"]["devices"].append(null)

    return module_runtime.start(module_bundle(mounts=mounts, edit=edit))


def test_what_the_host_writes_is_seen_inside_at_once(furnished: Container, volumes: Path) -> None:
    (volumes / "rw/from-host").write_text("hello")
    assert furnished.sh("cat /vol/rw/from-host") == "hello"
    (volumes / "rw/from-host").write_text("again, longer")
    assert furnished.sh("cat /vol/rw/from-host") == "again, longer"
    (volumes / "rw/from-host").unlink()
    assert furnished.exec("cat", "/vol/rw/from-host").status == 1


def test_what_is_written_inside_is_seen_on_the_host_at_once(furnished: Container, volumes: Path) -> None:
    furnished.sh("echo there > /vol/rw/from-inside; chmod 600 /vol/rw/from-inside; chown 8:12 /vol/rw/from-inside")
    made = volumes / "rw/from-inside"
    assert made.read_text() == "there\n"
    assert (made.stat().st_uid, made.stat().st_gid, stat.S_IMODE(made.stat().st_mode)) == (8, 12, 0o600)


def test_a_file_can_be_bound(furnished: Container, volumes: Path) -> None:
    furnished.sh("echo two >> /vol/file")
    assert (volumes / "file").read_text() == "one\ntwo\n"
    assert furnished.sh("cat /etc/fixed") == "fixed"


@pytest.mark.parametrize("path", ["/vol/ro/new", "/vol/ro/file", "/etc/fixed", "/new", "/etc/passwd"])
def test_what_is_readonly_cannot_be_written(furnished: Container, path: str) -> None:
    done = furnished.exec("sh", "-c", f"echo x > {path}")
    assert done.status != 0
    assert "read-only file system" in done.err.lower()


def test_a_link_as_source_is_followed_on_the_host(furnished: Container, volumes: Path) -> None:
    (volumes / "rw/through-link").write_text("x")
    assert furnished.sh("cat /vol/link/through-link") == "x"


def test_links_of_the_guest_do_not_lead_out_of_the_share(furnished: Container, volumes: Path) -> None:
    furnished.sh("ln -sfn /etc/hostname /vol/rw/out; ln -sfn ../../../../../../etc /vol/rw/up")
    assert os.readlink(volumes / "rw/out") == "/etc/hostname"
    assert furnished.exec("cat", "/vol/rw/out").status == 1
    assert furnished.sh("cat /vol/rw/up/passwd") == (furnished.bundle.rootfs / "etc/passwd").read_text().rstrip("\n")


def test_recursive_binds_bring_what_lies_below(furnished: Container, volumes: Path) -> None:
    furnished.sh("echo x > /vol/nested/inner/file")
    assert (volumes / "nested/inner/file").read_text() == "x\n"
    assert furnished.sh("ls /vol/nested/inner") == "file"


def test_other_binds_do_not(furnished: Container) -> None:
    assert furnished.sh("ls /vol/flat/inner") == "below"


def test_tmpfs_has_its_size_and_mode_and_is_the_guests(furnished: Container) -> None:
    assert furnished.sh("stat -c %a /scratch") == "1770"
    assert _blocks(furnished, "/scratch") == 2 * MIB
    assert furnished.exec("sh", "-c", "head -c 3m /dev/zero > /scratch/big").status == 1
    assert not list((furnished.bundle.rootfs / "scratch").iterdir())


def test_shm_has_its_size(furnished: Container) -> None:
    assert _blocks(furnished, "/dev/shm") == 8 * MIB


def _blocks(container: Container, path: str) -> int:
    free, size = (int(n) for n in container.sh(f"stat -f -c '%b %S' {path}").split())
    return free * size


def test_options_are_those_of_the_spec(furnished: Container) -> None:
    options = {
        line.split()[4]: set(line.split()[5].split(","))
        for line in furnished.sh("cat /proc/self/mountinfo").splitlines()
    }
    assert {"noexec", "rw"} <= options["/scratch"]
    assert {"ro", "nosuid", "nodev"} <= options["/etc/fixed"]
    assert "ro" in options["/"]
    assert "rw" in options["/vol/rw"]


@pytest.mark.parametrize("name", ["null", "zero", "full", "random", "urandom", "tty"])
def test_default_devices(furnished: Container, name: str) -> None:
    assert stat.S_ISCHR(int(furnished.sh(f"stat -c %f /dev/{name}"), 16))


def test_a_device_of_the_spec(furnished: Container) -> None:
    assert furnished.sh("stat -c '%t:%T %a %u:%g' /dev/kettle") == "1:3 640 8:12"
    furnished.sh("echo tea > /dev/kettle")


def test_a_device_that_the_cgroup_forbids(furnished: Container) -> None:
    done = furnished.exec("head", "-c", "1", "/dev/forbidden")
    assert done.status == 1
    assert "not permitted" in done.err


@pytest.mark.parametrize(
    "link, target", [("/dev/fd", "/proc/self/fd"), ("/dev/stdin", "/proc/self/fd/0"), ("/dev/ptmx", "pts/ptmx")]
)
def test_links_in_dev(furnished: Container, link: str, target: str) -> None:
    assert furnished.sh(f"readlink {link}").endswith(target)


def test_a_root_that_can_be_written_shows_it_on_the_host(runtime: Runtime, bundle: BundleMaker) -> None:
    made = bundle("sh", "-c", "echo mine > /etc/new; rm /etc/group; ln /etc/new /etc/hard; sync; sleep 1000")
    container = runtime.start(made)
    wait_for("the file is there", lambda: (made.rootfs / "etc/hard").exists())
    assert (made.rootfs / "etc/new").read_text() == "mine\n"
    assert not (made.rootfs / "etc/group").exists()
    (made.rootfs / "etc/by-host").write_text("x")
    assert container.sh("cat /etc/by-host; stat -c %h /etc/hard") == "x2"
