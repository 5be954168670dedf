"""Builds the test host's image: mmdebstrap, kernel, wheels, an ext4 file system. Build host, as root.

<output>/images/<inputs>/{vmlinux,initrd,root.ext4}   one image, never changed once it is there
<output>/guests/<inputs>.ext4                         katapy's guest image, as a disk for the test host
"""

import lzma
import os
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import cache
import cpio
import kernel
import recipe
from steps import BuildError, run, step
from testhost import description
from testhost.description import CHECKOUT, HERE, Description, Suite

OUTPUT = Path("/var/lib/katapy/testhost")
PLACE = "opt/katapy"
"""Where the project lies in the test host."""
MIB = 1024 * 1024
_NEEDED_MIB = 3072
_FULL_MIB = 32
_DIES_WITH_US = ("setpriv", "--pdeathsig=KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
"""A program with all that it starts and mounts."""
_IN_THE_HOST = ("__init__.py", "agent.py", "frames.py")


def image(output: Path = OUTPUT, suite: str = "") -> Path:
    """The folder of the image of this checkout, which is made unless it is there. Raises BuildError."""
    what = description.load()
    chosen = what.suite(suite)
    target = output / "images" / description.inputs(chosen)
    if not target.exists():
        output.mkdir(parents=True, exist_ok=True)
        with cache.locked(output):
            cache.clear_leftovers(output / "images", output / "guests")
            _check_space(output)
            with step("test host: image, once"):
                _once(target, what, chosen)
            _remove_others(*(output / "images" / description.inputs(one) for one in what.suites.values()))
    return target


def _once(target: Path, what: Description, suite: Suite) -> None:
    def make(folder: Path) -> None:
        try:
            make_image(what, suite, folder)
        except BuildError as e:
            if _free_mib(folder) < _FULL_MIB:
                raise BuildError(f"the disk of {folder.parent} is full: {e}") from e
            raise

    try:
        cache.once(target, make)
    except OSError as e:
        raise BuildError(f"can't write {e.filename or target}: {os.strerror(e.errno or 0).lower()}") from e


def guest_disk(output: Path, guest: Path) -> Path:
    """katapy's guest image (a folder, as `make image` leaves it) as a file system; made unless it is there."""
    guest = guest.resolve()
    target = output / "guests" / guest.name
    if not target.exists():
        with cache.locked(output):
            cache.once(target, lambda folder: _make_guest_disk(guest, folder))
            _remove_others(target)
    return target / "disk.ext4"


def _make_guest_disk(guest: Path, folder: Path) -> None:
    tree = folder / "tree"
    shutil.copytree(guest, tree / guest.name)
    (tree / "current").symlink_to(guest.name)
    size = sum(p.stat().st_size for p in tree.rglob("*")) // MIB
    file_system(tree, folder / "disk.ext4", size + size // 8 + 8)
    shutil.rmtree(tree)


def _remove_others(*keep: Path) -> None:
    for folder in keep[0].parent.iterdir():
        if folder not in keep:
            shutil.rmtree(folder)


def _check_space(output: Path) -> None:
    mib = _free_mib(output)
    if mib < _NEEDED_MIB:
        raise BuildError(f"{output} has {mib} MiB free, the test host's image needs {_NEEDED_MIB} while it is built")


def _free_mib(folder: Path) -> int:
    free = os.statvfs(folder)
    return free.f_bavail * free.f_frsize // MIB


def make_image(what: Description, suite: Suite, folder: Path) -> None:
    """Fills the empty `folder`. Raises BuildError, OSError."""
    tree, downloads = folder / "tree", folder / "downloads"
    tree.mkdir()
    downloads.mkdir()
    with step("packages"):
        _packages(what, suite, tree, downloads)
    with step("kernel"):
        _kernel(what, suite, tree, downloads / "kernel.deb", folder)
    with step("Python's wheels"):
        _wheels(what, suite, tree, downloads)
    with step("configuration"):
        _configure(what, suite, tree)
    with step("file system"):
        file_system(tree, folder / "root.ext4", what.machine.disk_mib)
    for left in (tree, downloads):
        shutil.rmtree(left)


def file_system(tree: Path, target: Path, mib: int) -> None:
    """An ext4 file system with the content of `tree`. Raises BuildError."""
    run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", "lazy_itable_init=1,root_owner=0:0",
         "-d", str(tree), str(target), f"{mib}M"])  # fmt: skip


def _packages(what: Description, suite: Suite, tree: Path, downloads: Path) -> None:
    hook = f'"{recipe.HERE}/download-kernel" "$1" {suite.kernel} "{downloads}"'
    run(
        [
            *_DIES_WITH_US,
            "mmdebstrap", "--quiet", "--variant=extract", "--mode=root", "--format=directory", "--skip=output/dev",
            *suite.mmdebstrap, f"--include={','.join([*what.packages, *suite.packages])}", f"--extract-hook={hook}",
            suite.name, str(tree), f"deb [signed-by={suite.keyring}] {suite.mirror} {suite.name} main",
        ],
        name="mmdebstrap",
    )  # fmt: skip
    # bookworm's mmdebstrap makes device nodes whatever --skip says, and a copy of /dev/zero has no end
    shutil.rmtree(tree / "dev")
    (tree / "dev").mkdir()


def _kernel(what: Description, suite: Suite, tree: Path, deb: Path, folder: Path) -> None:
    """`folder`/vmlinux and `folder`/initrd; the modules that are kept go into the tree."""
    unpacked, early = deb.with_suffix(""), deb.with_name("early")
    run(["dpkg-deb", "-x", str(deb), str(unpacked)])
    (source,) = next(unpacked.glob("**/lib/modules")).iterdir()
    (folder / "vmlinux").write_bytes(kernel.vmlinux((unpacked / f"boot/vmlinuz-{source.name}").read_bytes()))
    early.mkdir()
    boot = [*suite.boot, *what.modules.boot]
    for path in source.glob("kernel/**/*.ko*"):  # bookworm's are not packed
        if (name := path.name.partition(".")[0]) in boot:
            content = path.read_bytes()
            (early / f"{name}.ko").write_bytes(lzma.decompress(content) if path.suffix == ".xz" else content)
    kernel.check_order(early, boot)
    (folder / "initrd").write_bytes(initrd(boot, tree, early))
    _modules(what, tree, source)


def _modules(what: Description, tree: Path, source: Path) -> None:
    """`source`: a folder of them, named after the kernel's release."""
    target = tree / "usr/lib/modules" / source.name
    for pattern in what.modules.kept:
        for path in source.glob(f"kernel/{pattern}"):
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(path, place) if path.is_dir() else shutil.copy(path, place)
    for index in source.glob("modules.*"):
        shutil.copy(index, target)
    _chroot(tree, "/usr/sbin/depmod", source.name)


def initrd(boot: Sequence[str], tree: Path, modules: Path) -> bytes:
    """busybox, init and the modules that the root file system needs, in order."""
    return cpio.archive(
        [
            *(cpio.directory(name) for name in ("bin", "dev", "modules", "proc", "root")),
            cpio.character_device("dev/console", 5, 1),
            cpio.file("bin/busybox", (tree / "usr/bin/busybox").read_bytes(), 0o755),
            cpio.file("init", (HERE / "init").read_bytes(), 0o755),
            cpio.file("modules/order", "".join(f"{m}\n" for m in boot).encode()),
            *(cpio.file(f"modules/{m}.ko", (modules / f"{m}.ko").read_bytes()) for m in boot),
        ]
    )


def _wheels(what: Description, suite: Suite, tree: Path, downloads: Path) -> None:
    version = suite.python.removeprefix("python")
    platforms = [f"--platform={name}" for name in what.wheels.platforms]
    run(
        [
            sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--only-binary=:all:",
            f"--python-version={version}", "--implementation=cp", *platforms,
            f"--dest={downloads}", *description.requirements(what.wheels),
        ]
    )  # fmt: skip
    packages = tree / PLACE / f".venv/lib/{suite.python}/site-packages"
    for wheel in sorted(downloads.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)


def _configure(what: Description, suite: Suite, tree: Path) -> None:
    """What the packages' own scripts would do, as far as it is needed; then what host.yaml says."""
    for name in ("passwd", "group"):
        shutil.copy(tree / f"usr/share/base-passwd/{name}.master", tree / "etc" / name)
    for user in what.users:
        _append(tree / "etc/passwd", f"{user['name']}:x:{user['id']}:{user['id']}::/home/{user['name']}:/bin/bash\n")
        _append(tree / "etc/group", f"{user['name']}:x:{user['id']}:\n")
    _chroot(tree, "/usr/sbin/ldconfig")
    for name, points_to in what.links.items():
        if (tree / name).is_dir() and not (tree / name).is_symlink():
            (tree / name).rmdir()
        (tree / name).unlink(missing_ok=True)
        (tree / name).symlink_to(points_to)
    for pattern in what.prune:
        for path in tree.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    modules = {f"{name}\n" for name in what.modules.load}
    files = {
        "etc/modules-load.d/katapy.conf": "".join(sorted(modules)),
        "etc/modprobe.d/katapy.conf": "".join(f"options {m} {o}\n" for m, o in what.modules.options.items()),
        **what.files,
        **{f"usr/lib/katapy-testhost/testhost/{name}": (HERE / name).read_text() for name in _IN_THE_HOST},
    }
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).unlink(missing_ok=True)
        (tree / name).write_text(content)
    _chroot(tree, "/usr/bin/systemd-sysusers")
    for unit in what.masked:
        (tree / "etc/systemd/system" / unit).symlink_to("/dev/null")
    _python(suite, tree)


def _python(suite: Suite, tree: Path) -> None:
    """The project's environment, at the place where the project will be; byte code of all there is."""
    place = f"/{PLACE}"
    shutil.copy(CHECKOUT / "setup/launcher.py", tree / PLACE)
    _chroot(tree, f"/usr/bin/{suite.python}", "-m", "venv", "--without-pip", f"{place}/.venv")
    _chroot(tree, f"{place}/.venv/bin/python3", f"{place}/launcher.py", place, f"{place}/.venv/bin/katapy")
    (tree / PLACE / "launcher.py").unlink()
    (tree / "dev/shm").mkdir()  # what multiprocessing, so compileall -j, can't do without
    folders = (f"/usr/lib/{suite.python}", f"{place}/.venv/lib", "/usr/lib/katapy-testhost")
    _chroot(tree, f"/usr/bin/{suite.python}", "-m", "compileall", "-q", "-j0",
            "--invalidation-mode", "unchecked-hash", *folders)  # fmt: skip


def _chroot(tree: Path, *argv: str) -> None:
    run(["chroot", str(tree), *argv], env={"PATH": "/usr/sbin:/usr/bin", "LANG": "C.UTF-8"})


def _append(path: Path, text: str) -> None:
    with path.open("a") as f:
        f.write(text)
