"""What this host can run machines with: QEMU, accelerator, vsock; always with the reason in words. Runs in the CLI.

Nothing is printed here: `create` takes the choices, `katapy check` the words.
"""

import os
from dataclasses import dataclass

from katapy.errors import HostError, errno_text
from katapy.hypervisor.vm import Accelerator
from katapy.linux.program import first_executable, version_number, version_text

_KVM = "/dev/kvm"
_PVM = "/sys/module/kvm_pvm"
_CPU_INFO = "/proc/cpuinfo"
_VHOST_VSOCK = "/dev/vhost-vsock"
_LEAST_VERSION = (7, 2)
_SOUND_TCG = (8,)

_MACHINE_NAMES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class QemuBinary:
    """`path` is absolute."""

    path: str
    version: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AcceleratorChoice:
    """`reason` is a sentence; `warning` one more if the choice has a price, or empty."""

    accelerator: Accelerator
    reason: str
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether something can be used, and why or why not."""

    usable: bool
    reason: str


def host_arch() -> str:
    """As QEMU names it."""
    machine = os.uname().machine
    return _MACHINE_NAMES.get(machine, machine)


def find_qemu(configured: str, arch: str) -> QemuBinary:
    """The QEMU of katapy.yaml (hypervisor.binary: a path, a name, or auto). Raises HostError."""
    name = f"qemu-system-{arch}" if configured == "auto" else configured
    path = first_executable([name])
    if path is None:
        raise HostError(f"can't find {name}: install QEMU, or set hypervisor.binary")
    version = version_number(version_text(path))
    if version < _LEAST_VERSION:
        shown = ".".join(map(str, version)) or "unknown"
        raise HostError(f"{path} has version {shown}: QEMU 7.2 or newer is needed")
    return QemuBinary(path, version)


def choose_accelerator(wanted: str, qemu: QemuBinary) -> AcceleratorChoice:
    """For `auto`, `kvm` or `tcg`. Raises HostError if `kvm` was demanded and can't be."""
    kvm = kvm_availability()
    if wanted == "kvm" and not kvm.usable:
        raise HostError(f"hypervisor.accelerator is kvm, but {kvm.reason}: use tcg or auto")
    if wanted != "tcg" and kvm.usable:
        return AcceleratorChoice(Accelerator.KVM, kvm.reason)
    reason = "hypervisor.accelerator is tcg" if wanted == "tcg" else kvm.reason
    return AcceleratorChoice(Accelerator.TCG, reason, _tcg_warning(qemu))


def kvm_availability() -> Availability:
    """Whether an ordinary guest really runs under KVM here; a /dev/kvm that opens is no proof."""
    try:
        os.close(os.open(_KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as e:
        return Availability(False, f"{_KVM} can't be opened: {errno_text(e)}")
    if host_arch() != "x86_64":
        return Availability(True, f"{_KVM} can be opened")
    return judge_x86(_read(_CPU_INFO), os.path.exists(_PVM))


def judge_x86(cpuinfo: str, pvm: bool) -> Availability:
    """Pure: from /proc/cpuinfo and whether the host's KVM is PVM."""
    if pvm:
        return Availability(False, "KVM here is PVM (module kvm_pvm), which only boots guests made for it")
    flags = next((line.split() for line in cpuinfo.splitlines() if line.startswith("flags")), [])
    found = {"vmx", "svm"}.intersection(flags)
    if not found:
        return Availability(False, f"{_KVM} can be opened, but the CPU has neither vmx nor svm: no guest would boot")
    return Availability(True, f"{_KVM} can be opened and the CPU has {found.pop()}")


def vsock_availability() -> Availability:
    """Whether QEMU can be given a vsock of the host's kernel."""
    try:
        os.close(os.open(_VHOST_VSOCK, os.O_RDWR | os.O_CLOEXEC))
    except OSError as e:
        return Availability(False, f"{_VHOST_VSOCK} can't be opened: {errno_text(e)}")
    return Availability(True, f"{_VHOST_VSOCK} can be opened")


def device_groups(accelerator: Accelerator) -> tuple[int, ...]:
    """Groups that QEMU's user needs: the one of /dev/kvm, if KVM is used. Raises HostError."""
    if accelerator is not Accelerator.KVM:
        return ()
    try:
        status = os.stat(_KVM)
    except OSError as e:
        raise HostError(f"can't stat {_KVM}: {errno_text(e)}") from e
    if status.st_mode & 0o006 == 0o006:
        return ()
    if status.st_gid == 0 or status.st_mode & 0o060 != 0o060:
        raise HostError(f"{_KVM} is for root alone: give it a group of its own (chgrp kvm, chmod 660)")
    return (status.st_gid,)


def default_cpu(accelerator: Accelerator) -> str:
    """What katapy.yaml's `auto` means."""
    return "host" if accelerator is Accelerator.KVM else "max"


def has_sound_generation_id(accelerator: Accelerator, qemu: QemuBinary) -> bool:
    """vmgenid makes QEMU 7.2 corrupt more guests still when it emulates."""
    return accelerator is Accelerator.KVM or qemu.version >= _SOUND_TCG


def _tcg_warning(qemu: QemuBinary) -> str:
    if qemu.version >= _SOUND_TCG:
        return ""
    version = ".".join(map(str, qemu.version))
    return f"QEMU {version} corrupts emulated guests on a busy host: install QEMU 8 or newer"


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()
