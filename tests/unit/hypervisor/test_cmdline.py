"""QEMU's command line against golden files: one argument a line. KATAPY_UPDATE_GOLDEN=1 writes them anew."""

import dataclasses
import os
from pathlib import Path

import pytest

from katapy.errors import Unsupported
from katapy.hypervisor.qemu.cmdline import build_argv
from katapy.hypervisor.vm import Accelerator, Role, ShareSpec, ShareType, Transport, VmDescriptors, VmSpec

GOLDEN = Path(__file__).parents[2] / "golden/qemu"

BASE = VmSpec(
    name="web",
    arch="x86_64",
    binary="/usr/bin/qemu-system-x86_64",
    accelerator=Accelerator.TCG,
    machine="q35",
    cpu="max",
    vcpus=1,
    memory_mib=512,
    kernel="/image/vmlinux",
    initrd="/image/initrd",
    image="/image/rootfs.erofs",
    kernel_parameters=("quiet", "oops=panic"),
)
VIRTIOFS = ShareSpec(ShareType.VIRTIOFS, "katapy.shared", "/run/katapy/web/shared")
NINEP = ShareSpec(ShareType.NINEP, "katapy.shared", "/run/katapy/we,b/shared")
SERIAL = VmDescriptors(3, 4, 5, agent=6)


def spec(**changes: object) -> VmSpec:
    return dataclasses.replace(BASE, **changes)  # type: ignore[arg-type]


CASES = {
    "q35-tcg-serial": (BASE, SERIAL),
    "q35-tcg-serial-virtiofs": (spec(share=VIRTIOFS), VmDescriptors(3, 4, 5, agent=6, virtiofs=7)),
    "q35-tcg-serial-9p": (spec(share=NINEP, name="we,b", generation_id=False), SERIAL),
    "q35-kvm-vsock-virtiofs": (
        spec(accelerator=Accelerator.KVM, cpu="host", vcpus=4, transport=Transport.VSOCK, cid=70000, share=VIRTIOFS),
        VmDescriptors(3, 4, 5, vhost_vsock=6, virtiofs=7),
    ),
    "q35-kvm-growing": (spec(accelerator=Accelerator.KVM, cpu="host", max_vcpus=4, max_memory_mib=4608), SERIAL),
    "q35-tcg-debug": (spec(debug_console=True), SERIAL),
    "q35-tcg-template": (spec(role=Role.TEMPLATE), VmDescriptors(3, 4, 5, agent=6, memory=7, monitor=8)),
    "q35-tcg-clone-virtiofs": (
        spec(role=Role.CLONE, share=VIRTIOFS),
        VmDescriptors(3, 4, 5, agent=6, virtiofs=7, memory=8, monitor=9),
    ),
    "q35-tcg-clone-9p": (spec(role=Role.CLONE, share=NINEP), VmDescriptors(3, 4, 5, agent=6, memory=7, monitor=8)),
    "virt-tcg-serial": (spec(arch="aarch64", machine="virt", binary="/usr/bin/qemu-system-aarch64"), SERIAL),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    text = "\n".join(build_argv(*CASES[name])) + "\n"
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("KATAPY_UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_unknown_machine_is_refused() -> None:
    with pytest.raises(Unsupported, match="machine type 'pc' is not supported: choose one of q35, virt"):
        build_argv(spec(machine="pc"), SERIAL)


def test_virtiofs_needs_its_socket() -> None:
    with pytest.raises(ValueError, match="virtiofsd"):
        build_argv(spec(share=VIRTIOFS), SERIAL)
