"""The QEMU driver by itself: how a machine starts, what it may do, how its end is noticed.

Each test runs in a forked child with one thread, as the supervisor is when it spawns.
"""

import asyncio
import dataclasses
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from framework.fixtures import IMAGE
from framework.forked import in_child

from katapy.errors import HypervisorError
from katapy.hypervisor.drivers import load_driver
from katapy.hypervisor.qemu import probe
from katapy.hypervisor.qemu.process import QemuVm
from katapy.hypervisor.vm import Accelerator, VmSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not IMAGE.exists(), reason="needs root and a guest image")
UID = 1879048100
BOOT_S = 120


def spec() -> VmSpec:
    image = IMAGE.resolve().parent
    arch = probe.host_arch()
    return VmSpec(
        name="test",
        arch=arch,
        binary=probe.find_qemu("auto", arch).path,
        accelerator=Accelerator.TCG,
        machine="q35",
        cpu="max",
        vcpus=1,
        memory_mib=256,
        kernel=f"{image}/vmlinux",
        initrd=f"{image}/initrd",
        image=f"{image}/rootfs.erofs",
        kernel_parameters=tuple(json.loads(IMAGE.read_text())["kernel_parameters"]),
        uid=UID,
        gid=UID,
    )


def with_machine(wanted: VmSpec, state: Path, test: Callable[[QemuVm], Awaitable[None]]) -> None:
    def run() -> None:
        vm = load_driver("qemu").spawn(wanted, str(state))
        assert isinstance(vm, QemuVm)
        try:
            asyncio.run(_await(test(vm)))
        finally:
            vm.close()

    in_child(run)


async def _await(work: Awaitable[None]) -> None:
    await work


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_it_boots_without_rights_and_its_death_is_noticed(tmp_path: Path) -> None:
    async def test(vm: QemuVm) -> None:
        secret = {"version": 1, "secret": "00" * 32, "transport": "serial", "entropy": "", "unix_nanoseconds": 1}
        vm.send_boot_message(json.dumps(secret).encode() + b"\n")
        await vm.connect(BOOT_S)
        found = status(vm.pid)
        assert found["Uid"].split() == [str(UID)] * 4
        assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
        root = f"/proc/{vm.pid}/root"
        assert set(os.listdir(root)) <= {
            "usr",
            "bin",
            "sbin",
            "lib",
            "lib32",
            "lib64",
            "etc",
            "dev",
            "proc",
            *IMAGE.parts,
        }
        assert os.listdir(f"{root}/etc") == ["ld.so.cache"]
        assert Path(f"/proc/{vm.pid}/net/dev").read_text().count(":") == 1, "loopback only"
        await vm.agent_ready(BOOT_S)
        assert [name for name, _ in vm.phases]
        killed = time.monotonic()
        os.kill(vm.pid, signal.SIGKILL)
        end, again = await asyncio.gather(vm.wait(), vm.wait())
        assert time.monotonic() - killed < 0.5
        assert end.status == -9
        assert "ended by SIGKILL" in end.reason
        assert again == end
        vm.kill()

    with_machine(spec(), tmp_path, test)


def test_a_guest_that_panics_is_told_apart_and_quoted(tmp_path: Path) -> None:
    async def test(vm: QemuVm) -> None:
        await vm.connect(BOOT_S)
        with pytest.raises(HypervisorError, match=r"agent did not come up: the guest reset.*Unable to mount root fs"):
            await vm.agent_ready(BOOT_S)
        assert (await vm.wait()).status == 0

    empty = tmp_path / "initrd"
    empty.touch(0o644)
    with_machine(dataclasses.replace(spec(), initrd=str(empty)), tmp_path, test)


def test_what_qemu_complains_of_is_quoted(tmp_path: Path) -> None:
    async def test(vm: QemuVm) -> None:
        with pytest.raises(HypervisorError, match=r"qemu ended with status 1; last words: qemu: .*nonsense"):
            await vm.connect(BOOT_S)

    with_machine(dataclasses.replace(spec(), cpu="nonsense"), tmp_path, test)
