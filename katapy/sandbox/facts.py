"""host_facts(): the probes' answers and the configuration's wishes, put together for `plan`. CLI."""

import os

from katapy.config import Config
from katapy.errors import HostError
from katapy.hypervisor.qemu import probe
from katapy.hypervisor.vm import Accelerator, ShareType, Transport
from katapy.sandbox.plan import HostFacts
from katapy.storage.probe import find_virtiofsd
from katapy.storage.virtiofsd import Virtiofsd


def host_facts(config: Config) -> HostFacts:
    """Raises HostError if the host lacks what is needed, or what the configuration demands."""
    arch = probe.host_arch()
    qemu = probe.find_qemu(config.hypervisor.binary, arch)
    choice = probe.choose_accelerator(config.hypervisor.accelerator, qemu)
    accelerator = choice.accelerator
    share, virtiofsd = choose_share(config)
    wanted_cpu = config.hypervisor.cpu
    return HostFacts(
        cpus=len(os.sched_getaffinity(0)),
        arch=arch,
        qemu=qemu.path,
        accelerator=accelerator,
        cpu_model=probe.default_cpu(accelerator) if wanted_cpu == "auto" else wanted_cpu,
        transport=choose_transport(config),
        share=share,
        virtiofsd=virtiofsd,
        groups=probe.device_groups(accelerator),
        generation_id=probe.has_sound_generation_id(accelerator, qemu),
        qemu_version=qemu.version,
        warning=_warning(choice),
        memory_mib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
    )


def _warning(choice: probe.AcceleratorChoice) -> str:
    """For supervisor.log and `katapy check`: what `create` prints would end up in the container's own log."""
    if choice.accelerator is Accelerator.KVM:
        return ""
    more = f"; {choice.warning}" if choice.warning else ""
    return f"guests are emulated, ten times slower than with KVM: {choice.reason}{more}"


def choose_transport(config: Config) -> Transport:
    """vsock where the host has it, unless the configuration says otherwise. Raises HostError."""
    if config.transport == "serial":
        return Transport.SERIAL
    vsock = probe.vsock_availability()
    if vsock.usable:
        return Transport.VSOCK
    if config.transport == "vsock":
        raise HostError(f"transport is vsock, but {vsock.reason}: load vhost_vsock, or use serial")
    return Transport.SERIAL


def choose_share(config: Config) -> tuple[ShareType, Virtiofsd | None]:
    """virtio-fs where there is a daemon, else 9p (docs/decisions/0001-shared-root.md). Raises HostError."""
    if config.share.type == "9p":
        return ShareType.NINEP, None
    daemon = find_virtiofsd(config.share.virtiofsd)
    if daemon is not None:
        return ShareType.VIRTIOFS, daemon
    if config.share.type == "virtiofs":
        raise HostError("share.type is virtiofs, but there is no virtiofsd: install it, or set share.virtiofsd")
    return ShareType.NINEP, None
