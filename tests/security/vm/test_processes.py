"""The host's processes of a machine: what they may do, what they hold, who can talk to them."""

import json
import os
import re
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from framework import processes
from framework.bundle import default_process
from framework.runtime import Container, owner_of

NOBODY = 65534
NINEP_MAY = {0, 1, 3, 4}
"""CHOWN, DAC_OVERRIDE, FOWNER, FSETID: what QEMU keeps where it serves the share itself."""
VIRTIOFSD_MAY = {0, 1, 3, 4, 6, 7, 27, 31}
"""CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID, MKNOD, SETFCAP: what serving files of any owner takes."""


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def capabilities(hexadecimal: str) -> set[int]:
    return {bit for bit in range(64) if int(hexadecimal, 16) >> bit & 1}


def serves_the_share(qemu: int) -> bool:
    """Whether the share is 9p, which is QEMU's own."""
    return b"virtio-9p-pci" in Path(f"/proc/{qemu}/cmdline").read_bytes()


def mounts_of(pid: int) -> dict[str, str]:
    """Mount point -> options, as the process sees them."""
    lines = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return {fields[4]: fields[5] for fields in lines}


def namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


@pytest.fixture(scope="module")
def qemu(running: Container) -> int:
    return owner_of(running, "qemu")


@pytest.fixture(scope="module")
def virtiofsd(running: Container) -> list[int]:
    """The daemon and the parent that waits for it."""
    wanted = f"{running.id}/shared"
    found = [p for p in processes.descendants(os.getpid()) if "virtiofsd" in p.command and wanted in p.command]
    if not found:
        pytest.skip("the share is not virtio-fs here")
    return [p.pid for p in found]


def test_qemu_is_nobody_and_stays_so(qemu: int) -> None:
    status = status_of(qemu)
    uids, gids = set(status["Uid"].split()), set(status["Gid"].split())
    assert len(uids) == 1
    assert len(gids) == 1
    assert int(uids.pop()) >= 1 << 30
    assert "0" not in gids
    assert status["Groups"] == ""
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert capabilities(status[kind]) == (NINEP_MAY if serves_the_share(qemu) else set()), kind
    assert status["NoNewPrivs"] == "1"


def test_qemu_has_a_seccomp_filter_in_every_thread(qemu: int) -> None:
    for thread in os.listdir(f"/proc/{qemu}/task"):
        assert "Seccomp:\t2" in Path(f"/proc/{qemu}/task/{thread}/status").read_text()


def test_qemu_holds_nothing_but_its_own_pipes_sockets_and_the_image_for_reading(qemu: int) -> None:
    plain = ("anon_inode:", "socket:", "pipe:", "/memfd:")
    for number in os.listdir(f"/proc/{qemu}/fd"):
        target = os.readlink(f"/proc/{qemu}/fd/{number}")
        if target == "/dev/null" or target.startswith(plain):
            continue
        if serves_the_share(qemu) and "/shared" in target:
            continue
        assert target.endswith("/rootfs.erofs"), target
        flags = int(Path(f"/proc/{qemu}/fdinfo/{number}").read_text().split("flags:")[1].split()[0], 8)
        assert flags & os.O_ACCMODE == os.O_RDONLY


def test_qemu_has_no_network_and_sees_no_mount_of_the_host(qemu: int) -> None:
    for kind in ("net", "mnt", "ipc"):
        assert namespace(qemu, kind) != namespace("self", kind), kind
    interfaces = Path(f"/proc/{qemu}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]


def test_qemu_sees_programs_its_image_and_no_more(running: Container, qemu: int) -> None:
    root = Path(f"/proc/{qemu}/root")
    assert {entry.name for entry in (root / "etc").iterdir()} <= {"ld.so.cache"}
    for absent in ("root", "home", "tmp", "boot", "etc/passwd", "etc/shadow", "run/dbus"):
        assert not (root / absent).exists(), absent
    assert not (root / str(running.state_dir).lstrip("/") / "control.sock").exists()
    options = mounts_of(qemu)
    writable = {place for place, flags in options.items() if "ro" not in flags.split(",")}
    shared = {p for p in writable if p.startswith(f"{running.state_dir}/shared/")}
    assert writable - shared <= {"/dev/null", "/dev/urandom", "/dev/kvm", "/proc"}
    assert bool(shared) == serves_the_share(qemu)
    assert all("nosuid" in flags for flags in options.values())


def test_qemu_inherits_no_environment(qemu: int) -> None:
    variables = Path(f"/proc/{qemu}/environ").read_bytes().split(b"\0")
    assert {entry.partition(b"=")[0] for entry in variables if entry} <= {b"PATH", b"LANG"}


def test_the_supervisor_executes_nothing_any_more(running: Container) -> None:
    supervisor = owner_of(running, "supervisor")
    for thread in os.listdir(f"/proc/{supervisor}/task"):
        status = Path(f"/proc/{supervisor}/task/{thread}/status").read_text()
        assert "Seccomp:\t2" in status
        assert "NoNewPrivs:\t1" in status


def test_virtiofsd_is_behind_seccomp_with_few_capabilities(virtiofsd: list[int]) -> None:
    serving = [pid for pid in virtiofsd if status_of(pid)["Seccomp"] == "2"]
    assert len(serving) == 1
    for pid in virtiofsd:
        status = status_of(pid)
        assert capabilities(status["CapEff"]) <= (VIRTIOFSD_MAY if pid in serving else set())
        assert capabilities(status["CapPrm"]) <= (VIRTIOFSD_MAY if pid in serving else set())
        assert capabilities(status["CapBnd"]) == set()
        assert status["NoNewPrivs"] == "1"
        for kind in ("net", "mnt", "ipc"):
            assert namespace(pid, kind) != namespace("self", kind), kind


def test_virtiofsds_root_is_the_share(running: Container, virtiofsd: list[int]) -> None:
    for pid in virtiofsd:
        options = mounts_of(pid)
        assert "ro" in options["/"].split(",")
        assert set(options) == {"/", f"/{running.id}/rootfs"}
        for flags in options.values():
            assert {"nodev", "nosuid"} <= set(flags.split(","))
        assert os.listdir(f"/proc/{pid}/root") == [running.id]


def test_state_is_for_root_alone(running: Container) -> None:
    for folder in (running.runtime.root, running.state_dir):
        status = folder.stat()
        assert stat.S_IMODE(status.st_mode) == 0o700
        assert status.st_uid == 0
    sockets = [p for p in running.state_dir.iterdir() if p.is_socket()]
    assert {p.name for p in sockets} >= {"control.sock"}
    for path in running.state_dir.iterdir():
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path


@pytest.mark.parametrize("name", ["control.sock", "agent.sock", "state.json", "supervisor.log"])
def test_another_user_reaches_nothing_of_it(running: Container, name: str) -> None:
    path = running.state_dir / name
    if not path.exists():
        pytest.skip(f"no {name} with this transport")
    pid = os.fork()
    if pid == 0:
        os._exit(_attempt(path))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 13


def _attempt(path: Path) -> int:
    """As nobody: errno."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    try:
        if path.suffix == ".sock":
            socket.socket(socket.AF_UNIX).connect(str(path))
        else:
            os.open(path, os.O_RDONLY)
    except OSError as e:
        return e.errno or 255
    return 0


def test_no_abstract_sockets(running: Container) -> None:
    abstract = {fields[6] for line in _unix_sockets() if len(fields := line.split()) > 7 and fields[7].startswith("@")}
    for process in processes.descendants(os.getpid()):
        held = {target[8:-1] for target in processes.descriptors(process.pid) if target.startswith("socket:[")}
        assert not held & abstract, process.command


def _unix_sockets() -> list[str]:
    return Path("/proc/net/unix").read_text().splitlines()[1:]


def test_a_guests_memory_is_never_dumped_into_a_file(qemu: int, virtiofsd: list[int]) -> None:
    for pid in (qemu, *virtiofsd):
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert limits.split("Max core file size")[1].split()[:2] == ["0", "0"]


def test_no_process_of_the_host_runs_in_the_containers_files(running: Container) -> None:
    """CVE-2019-5736: whoever executes a container's file, or is executed out of reach of one, can be overwritten."""
    for process in processes.descendants(os.getpid()):
        assert not os.readlink(f"/proc/{process.pid}/exe").startswith(str(running.bundle.path))
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert str(running.bundle.path) not in maps


def test_the_stand_in_holds_its_channel_and_nothing_else(running: Container) -> None:
    held = set(processes.descriptors(running.pid)) - {"/dev/null"}
    assert len(held) == 1
    assert held.pop().startswith("socket:")


def test_descriptors_of_the_caller_stay_with_the_caller(running: Container, tmp_path: Path) -> None:
    leaked = tmp_path / "leaked"
    with leaked.open("w") as file:
        argv = running.runtime.argv("exec", "--detach", running.id, "sleep", "1")
        done = subprocess.run(argv, pass_fds=[file.fileno()], stdin=subprocess.DEVNULL, timeout=90, check=True)
        assert done.returncode == 0
    for process in processes.descendants(os.getpid()):
        assert str(leaked) not in processes.descriptors(process.pid), process.command


def test_the_workload_has_three_descriptors(running: Container) -> None:
    assert running.sh("ls /proc/1/fd").split() == ["0", "1", "2"]
    assert running.sh("sleep 5 & ls /proc/$!/fd; kill $!").split() == ["0", "1", "2"]


@pytest.mark.parametrize("number", range(3, 11))
def test_a_working_directory_by_descriptor_is_refused(running: Container, tmp_path: Path, number: int) -> None:
    """CVE-2024-21626: one of crun's or the agent's descriptors as a way out of the root."""
    process = default_process(["sh", "-c", "pwd; ls ../../../.."])
    file = tmp_path / "process.json"
    for cwd in (f"/proc/self/fd/{number}", f"/proc/1/fd/{number}"):
        file.write_text(json.dumps(process | {"cwd": cwd}))
        done = running.runtime("exec", "--process", file, running.id)
        assert done.status != 0
        assert done.out == ""


def test_the_container_sees_no_secret_and_no_port(running: Container) -> None:
    """The secret of the channel has 64 hexadecimal digits; nothing a container can read has them."""
    script = "cat /proc/cmdline /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; env"
    assert not _long_hex(running.sh(script))
    assert running.sh("ls /dev | grep -c -e vport -e hvc -e vd; true") == "0"
    assert running.sh("ls /sys/firmware 2>/dev/null; true") == ""
    assert running.sh("ls /run/katapy 2>&1; true") == "ls: /run/katapy: No such file or directory"


def _long_hex(text: str) -> bool:
    return re.search(r"[0-9a-f]{64}", text) is not None


_OPEN_DEVICES = """
    try() { rm -f /tmp/node; mknod /tmp/node $1 $2 $3 2>/dev/null && head -c1 /tmp/node >/dev/null 2>&1 && echo $*; }
    try b 254 0; try b 254 1; try c 1 1; try c 229 0; try c 10 175
    for major in $(awk '/virtio-portsdev/{print $1}' /proc/devices); do
        for minor in 0 1 2 3 4; do try c $major $minor; done
    done
    true
"""


@pytest.mark.parametrize("capability", [True, False])
def test_devices_of_the_machine_cannot_be_opened(running: Container, tmp_path: Path, capability: bool) -> None:
    """CVE-2020-2023: the machine's disk, its ports and its memory, with CAP_MKNOD and without."""
    process = default_process(["sh", "-c", _OPEN_DEVICES])
    if capability:
        for kind in ("bounding", "effective", "permitted"):
            process["capabilities"][kind] = [*process["capabilities"][kind], "CAP_MKNOD"]
    file = tmp_path / "process.json"
    file.write_text(json.dumps(process))
    assert running.runtime("exec", "--process", file, running.id).ok().out == ""


def test_files_that_are_executed_from_proc_leave_the_guests_programs_alone(running: Container) -> None:
    """CVE-2019-5736: crun as the container's executable. Whatever comes of it, the next exec works."""
    running.exec("/proc/self/exe", "--version")
    running.exec("sh", "-c", "echo '#!/bin/sh' > /proc/1/exe")
    assert running.sh("echo well") == "well"
    assert running.status == "running"
