"""QEMU's command line: a pure function of a VmSpec. Runs in the supervisor; tests/golden/qemu shows the outcome."""

from katapy.errors import Unsupported
from katapy.hypervisor.qemu import devices
from katapy.hypervisor.vm import Accelerator, VmDescriptors, VmSpec

_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

_MACHINE_OPTIONS = {
    # No legacy hardware that would be probed while the guest starts.
    "q35": "vmport=off,smm=off,hpet=off,sata=off,smbus=off,i8042=off,usb=off,graphics=off,dump-guest-core=off",
    "virt": "gic-version=max,dump-guest-core=off",
}

_OWN_PARAMETERS = ("panic=-1",)
"""A panic ends the machine at once (-no-reboot)."""

_TCG_BUFFER_MIB = 96
"""For translated code; QEMU's own choice is an eighth of the host's memory, up to 1 GiB. Agent and crun fill 48 to 62;
with 32 they overflow it, and an exec takes four times as long (docs/decisions/0005). The rest is the container's."""

_CONSOLE = ("console=hvc0",)
"""Comes up late: what the kernel said before is repeated there, unless it died before."""

_DEBUG_CONSOLE = {
    "x86_64": ("console=ttyS0", "earlyprintk=ttyS0", "ignore_loglevel"),
    "aarch64": ("console=ttyAMA0", "earlycon", "ignore_loglevel"),
}


def build_argv(spec: VmSpec, fds: VmDescriptors) -> list[str]:
    """The whole argv for `spec`, with the numbers that descriptors have in QEMU. Raises Unsupported (machine)."""
    return [
        spec.binary,
        "-name", f"guest={devices.escape(spec.name)}",
        "-nodefaults", "-no-user-config", "-no-reboot",
        "-display", "none",
        "-sandbox", _SANDBOX,
        *_machine(spec),
        "-cpu", spec.cpu,
        *devices.processors(spec),
        *devices.memory(spec, fds),
        *_kernel(spec),
        *devices.qmp(fds),
        *devices.root_disk(spec),
        *devices.serial_ports(spec, fds),
        *devices.vsock(spec, fds),
        *devices.share(spec, fds),
        *devices.entropy(spec),
        *devices.hotplug_ports(),
        *devices.saving(spec, fds),
    ]  # fmt: skip


def _machine(spec: VmSpec) -> list[str]:
    try:
        options = _MACHINE_OPTIONS[spec.machine]
    except KeyError:
        known = ", ".join(sorted(_MACHINE_OPTIONS))
        raise Unsupported(f"machine type {spec.machine!r} is not supported: choose one of {known}") from None
    # One thread a vCPU: without it a busy vCPU of a TCG guest holds up all others.
    tcg = f"tcg,thread=multi,tb-size={_TCG_BUFFER_MIB}"
    accelerator = tcg if spec.accelerator is Accelerator.TCG else "kvm"
    return ["-machine", f"{spec.machine},{options}", "-accel", accelerator]


def _kernel(spec: VmSpec) -> list[str]:
    console = _DEBUG_CONSOLE[spec.arch] if spec.debug_console else _CONSOLE
    parameters = [*console, *_OWN_PARAMETERS, *spec.kernel_parameters]
    return ["-kernel", spec.kernel, "-initrd", spec.initrd, "-append", " ".join(parameters)]
