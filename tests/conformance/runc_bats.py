"""runc's integration tests: `tests/integration/*.bats` of the Go module, its test programs built, and root file systems
made of Debian packages where its own come from a registry. Needs bats, gawk, jq, busybox-static, mmdebstrap, and Go."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from conformance.suite import Suite, go
from framework.settings import write_settings

MODULE = "github.com/opencontainers/runc"
VERSION = "1.3.6"
SUM = "h1:SLGIymCtsk80iNPWgbc8dtjI30r+5mTVV+4dN8/17Sk="
PROGRAMS = ("recvtty", "pidfd-kill", "fs-idmap", "remap-rootfs")
"""Not the seccomp agent, which needs cgo and what katapy refuses, nor the helper for a host that systemd runs."""
OF_CGROUPS = ("cgroup_delegation", "cgroups", "update")
GUEST_HELPERS = Path(__file__).resolve().parent / "runc_guest/helpers.bash"
DEBIAN = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main"
BUSYBOX = "/usr/bin/busybox"


def _programs(folder: Path) -> list[str]:
    files = (folder / "source/tests/integration").glob("*.bats")
    return sorted(file.stem for file in files)


def _command(folder: Path, program: str) -> list[str]:
    return ["bats", "--tap", str(folder / "source/tests/integration" / f"{program}.bats")]


def _prepare(folder: Path) -> None:
    source = folder / "source"
    if not source.exists():
        module = json.loads(go("mod", "download", "-json", f"{MODULE}@v{VERSION}", cwd=folder))
        if module["Sum"] != SUM:
            raise SystemExit(f"runc {VERSION}: the module has the hash {module['Sum']}, not {SUM}")
        shutil.copytree(module["Dir"], source)
        subprocess.run(["chmod", "-R", "u+w,a+rx", source], check=True)
    for name in PROGRAMS:
        binary = source / "tests/cmd/_bin" / name
        if not binary.exists():
            go("build", "-o", str(binary), f"./tests/cmd/{name}", cwd=source)
    _make_images(source / "tests/integration/testdata")


def _make_images(testdata: Path) -> None:
    """Where the suite would put what it downloads. Not compressed, whatever the names say: tar looks at the content."""
    architecture = go("env", "GOARCH", cwd=testdata).strip()
    busybox, debian = (testdata / f"{name}-{architecture}.tar.xz" for name in ("busybox", "debian"))
    if not busybox.exists():
        with tempfile.TemporaryDirectory() as root:
            _busybox_root(Path(root))
            subprocess.run(["tar", "-C", root, "-cf", busybox, "."], check=True)
    if not debian.exists():
        made = debian.with_suffix(".tar")
        subprocess.run(["mmdebstrap", "--quiet", "--variant=essential", "bookworm", made, DEBIAN], check=True)
        made.rename(debian)


def _busybox_root(root: Path) -> None:
    """Folders and users are those of the busybox image that runc's tests name: it has no /proc and no /sys."""
    root.chmod(0o755)
    for folder in ("bin", "dev", "etc", "home", "root", "tmp", "usr/sbin", "var/spool/mail", "var/www"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for applet in subprocess.run([BUSYBOX, "--list"], check=True, stdout=subprocess.PIPE, text=True).stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\n"
        "sys:x:3:3:sys:/dev:/bin/false\nmail:x:8:8:mail:/var/spool/mail:/bin/false\n"
        "nobody:x:65534:65534:nobody:/home:/bin/false\n"
    )
    (root / "etc/group").write_text(
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nmail:x:8:\nutmp:x:43:\nusers:x:100:\nnogroup:x:65534:\n"
    )


def _prepare_guest(folder: Path) -> None:
    """Tests load the `helpers` beside them."""
    of_runc = folder.with_name("runc")
    of_runc.mkdir(exist_ok=True)
    _prepare(of_runc)
    shutil.copy(GUEST_HELPERS, folder)
    for name in OF_CGROUPS:
        shutil.copy(of_runc / f"source/tests/integration/{name}.bats", folder)


def _guest_environment(folder: Path, runtime: Path) -> dict[str, str]:
    """Two processors, as the tests of cpusets want."""
    return {
        "RUNC": str(runtime),
        "RUNC_HELPERS": str(folder.with_name("runc") / "source/tests/integration/helpers.bash"),
        "KATAPY_CONFIG": str(write_settings(folder / "katapy.yaml", hypervisor={"vcpus": 2})),
    }


RUNC = Suite(
    prepare=_prepare,
    programs=_programs,
    command=_command,
    environment=lambda _folder, runtime: {"RUNC": str(runtime)},
    status_tells=False,
)
RUNC_GUEST = Suite(
    prepare=_prepare_guest,
    programs=lambda _folder: list(OF_CGROUPS),
    command=lambda folder, program: ["bats", "--tap", str(folder / f"{program}.bats")],
    environment=_guest_environment,
    status_tells=False,
)
"""Those of runc's tests that read cgroup files, in the container: there the limits are set."""
