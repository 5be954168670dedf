"""spawn_confined with real children, which change their user: as root only."""

import os
import select
import signal
from collections.abc import Sequence
from typing import Any

import pytest
from framework import processes

from katapy.errors import HostError
from katapy.linux.process import Confinement, spawn_confined

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
NOBODY = Confinement(uid=65534, gid=65534, groups=(65534,), nofile=64)


def run(argv: Sequence[str], confinement: Confinement = NOBODY, **descriptors: int) -> str:
    """What the child wrote; it must have ended well."""
    read, write = os.pipe()
    passed = {int(name.removeprefix("fd")): fd for name, fd in descriptors.items()}
    child = spawn_confined(argv, confinement, stderr=write, descriptors=passed)
    os.close(write)
    with open(read) as f:
        output = f.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == 0
    os.close(child.pidfd)
    return output


def status_of(confinement: Confinement) -> dict[str, str]:
    text = run(["/bin/cat", "/proc/self/status"], confinement)
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


@root
def test_user_and_capabilities_are_gone() -> None:
    status = status_of(NOBODY)
    assert status["Uid"] == "\t".join(["65534"] * 4)
    assert status["Gid"] == "\t".join(["65534"] * 4)
    assert status["Groups"].strip() == "65534"
    assert status["NoNewPrivs"] == "1"
    assert status["Umask"] == "0077"
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name


@root
def test_named_capabilities_stay() -> None:
    keep = frozenset({"CAP_CHOWN", "CAP_FOWNER"})
    user = status_of(Confinement(uid=65534, gid=65534, capabilities=keep))
    superuser = status_of(Confinement(capabilities=keep))
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(user[name], 16) == int(superuser[name], 16) == 0b1001, name
    assert int(user["CapAmb"], 16) == 0b1001


@root
def test_only_the_wanted_descriptors_are_open() -> None:
    inherited = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    names = run(["/bin/ls", "/proc/self/fd"], fd3=inherited, fd7=inherited).split()
    os.close(inherited)
    assert names == ["0", "1", "2", "3", "4", "7"] or names == ["0", "1", "2", "3", "7", "8"]


@root
def test_swapped_descriptors_arrive_right() -> None:
    a, b = os.open("/dev/zero", os.O_RDONLY), os.open("/dev/full", os.O_RDONLY)
    swapped: dict[str, Any] = {f"fd{a}": b, f"fd{b}": a}
    text = run(["/bin/readlink", f"/proc/self/fd/{a}", f"/proc/self/fd/{b}"], **swapped)
    os.close(a)
    os.close(b)
    assert text == "/dev/full\n/dev/zero\n"


@root
def test_signals_are_as_at_login() -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        status = status_of(NOBODY)
    finally:
        signal.signal(signal.SIGUSR1, before)
    ours = ~(
        3 << 31
    )  # 32 and 33 are the C library's: nobody else can set them, and with threads it may have blocked one
    assert int(status["SigIgn"], 16) & ours == 0
    assert int(status["SigBlk"], 16) & ours == 0


@root
def test_a_binary_that_is_absent_is_named() -> None:
    before = {p.pid for p in processes.descendants(os.getpid())}
    with pytest.raises(HostError, match="can't start /nosuch/qemu: exec: no such file or directory"):
        spawn_confined(["/nosuch/qemu"], NOBODY)
    assert {p.pid for p in processes.descendants(os.getpid())} <= before


@root
def test_prepare_runs_in_the_new_namespace() -> None:
    def prepare() -> None:
        os.mkdir(f"/proc/self/{'x' * 300}")

    with pytest.raises(HostError, match="private mounts: "):
        spawn_confined(["/bin/true"], Confinement(namespaces=("mount",)), prepare=prepare)


@root
def test_the_child_dies_with_its_parent() -> None:
    read, write = os.pipe()
    middle = os.fork()
    if middle == 0:
        child = spawn_confined(["/bin/sleep", "60"], NOBODY)
        os.write(write, str(child.pid).encode())
        os._exit(0)
    os.waitpid(middle, 0)
    pid = int(os.read(read, 20))
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # dead and reaped already
    assert select.select([pidfd], [], [], 5)[0], "still alive"
    os.close(pidfd)
