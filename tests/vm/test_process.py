"""What the spec says of the process and its fences, seen from inside: one container has it all. One boot."""

import errno
from typing import Any

import pytest
from framework.bundle import PATH, Spec
from framework.fixtures import BundleMaker
from framework.runtime import Container, Runtime
from framework.wait import PATIENCE

PROCESS: Spec = {
    "user": {"uid": 1000, "gid": 1001, "additionalGids": [50, 60], "umask": 0o027},
    "env": [PATH, "GREETING=hello world", "EMPTY=", "HOME=/elsewhere", "HOME="],
    "cwd": "/home",
    "noNewPrivileges": True,
    "oomScoreAdj": 250,
    "capabilities": {
        kind: ["CAP_KILL", "CAP_NET_BIND_SERVICE"]
        for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")
    },
    "rlimits": [
        {"type": "RLIMIT_NOFILE", "soft": 1000, "hard": 1024},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_FSIZE", "soft": 1 << 30, "hard": 1 << 31},
    ],
}
LINUX: Spec = {
    "sysctl": {"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1", "kernel.msgmax": "16384"},
    "seccomp": {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV},
            {"names": ["fchmodat", "chmod", "fchmodat2"], "action": "SCMP_ACT_ERRNO"},
        ],
    },
    "maskedPaths": ["/proc/kcore", "/etc/group", "/etc/masked-folder", "/nosuch"],
    "readonlyPaths": ["/proc/sys", "/etc/readonly", "/nosuch"],
}
HOSTNAME = "tower, höhe_1"  # no RFC's idea of a name: runc and the kernel take any bytes
KILL, NET_BIND_SERVICE = 5, 10
CAPABILITIES = 1 << KILL | 1 << NET_BIND_SERVICE


@pytest.fixture(scope="module")
def fenced(module_runtime: Runtime, module_bundle: BundleMaker) -> Container:
    script = "touch /tmp/created-by-init; exec sleep 1000000"
    made = module_bundle("sh", "-c", script, process=PROCESS, linux=LINUX, hostname=HOSTNAME, domainname="example.org")
    (made.rootfs / "etc/masked-folder").mkdir()
    (made.rootfs / "etc/masked-folder/secret").write_text("x")
    (made.rootfs / "etc/readonly").write_text("x")
    (made.rootfs / "etc").chmod(0o777)
    (made.rootfs / "etc/readonly").chmod(0o666)
    return module_runtime.start(made)


@pytest.fixture(scope="module")
def status(fenced: Container) -> dict[str, str]:
    """/proc/1/status of the container."""
    pairs = (line.partition(":") for line in fenced.sh("cat /proc/1/status").splitlines())
    return {name: value.strip() for name, _, value in pairs}


def test_user_and_groups(status: dict[str, str]) -> None:
    assert status["Uid"].split() == ["1000"] * 4
    assert status["Gid"].split() == ["1001"] * 4
    assert sorted(status["Groups"].split()) == ["50", "60"]


def test_umask(fenced: Container) -> None:
    assert fenced.sh("stat -c %a /tmp/created-by-init") == "640"


@pytest.mark.parametrize("kind", ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
def test_capabilities(status: dict[str, str], kind: str) -> None:
    assert int(status[kind], 16) == CAPABILITIES


def test_no_new_privileges_and_seccomp(status: dict[str, str]) -> None:
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_environment(fenced: Container) -> None:
    environment = fenced.sh("tr '\\0' '\\n' </proc/1/environ").splitlines()
    assert {PATH, "GREETING=hello world", "EMPTY=", "HOME=/"} <= set(environment)


def test_working_directory(fenced: Container) -> None:
    assert fenced.sh("readlink /proc/1/cwd") == "/home"
    assert fenced.exec("pwd").out == "/home\n"


def test_oom_score(fenced: Container) -> None:
    assert fenced.sh("cat /proc/1/oom_score_adj") == "250"


def test_rlimits(fenced: Container) -> None:
    lines = fenced.sh("cat /proc/1/limits").splitlines()
    limits: dict[str, Any] = {line[:25].strip(): line[25:].split()[:2] for line in lines}
    assert limits["Max open files"] == ["1000", "1024"]
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max file size"] == [str(1 << 30), str(1 << 31)]


def test_sysctls(fenced: Container) -> None:
    names = " ".join("/proc/sys/" + name.replace(".", "/") for name in LINUX["sysctl"])
    assert fenced.sh(f"cat {names}").split() == list(LINUX["sysctl"].values())


def test_hostname_and_domain(fenced: Container) -> None:
    assert fenced.sh("hostname") == HOSTNAME


@pytest.mark.guest
def test_domain(fenced: Container) -> None:
    assert fenced.sh("cat /proc/sys/kernel/domainname") == "example.org"


@pytest.mark.parametrize("command, words", [("mkdir /tmp/d", "cross-device"), ("chmod 777 /tmp", "not permitted")])
def test_seccomp_denies_with_the_errno_it_was_told(fenced: Container, command: str, words: str) -> None:
    done = fenced.exec("sh", "-c", command)
    assert done.status == 1
    assert words in done.err.lower()


def test_masked_paths_are_empty(fenced: Container) -> None:
    assert fenced.sh("cat /proc/kcore /etc/group; ls -A /etc/masked-folder") == ""


@pytest.mark.parametrize("path", ["/proc/sys/kernel/msgmax", "/etc/readonly"])
def test_readonly_paths_can_be_read_and_not_written(fenced: Container, path: str) -> None:
    assert fenced.sh(f"cat {path}")
    done = fenced.exec("sh", "-c", f"echo 1 > {path}", flags=["--user", "0:0"])
    assert done.status != 0
    assert "read-only" in done.err.lower()


@pytest.mark.parametrize("kind", ["pid", "net", "ipc", "uts", "mnt", "cgroup"])
def test_namespaces_are_its_own(fenced: Container, kind: str) -> None:
    """Not those of the guest's PID 1, or of the host: told by the initial ones' fixed numbers."""
    initial = {"pid": "4026531836", "ipc": "4026531839", "uts": "4026531838", "cgroup": "4026531835"}
    link = fenced.sh(f"readlink /proc/1/ns/{kind}", timeout=90 * PATIENCE)
    assert link.startswith(f"{kind}:[")
    assert initial.get(kind, "none") not in link
