"""Pieces of QEMU's command line: one function a device or back end. Pure; runs in the supervisor."""

import json

from katapy.hypervisor.vm import Role, ShareSpec, ShareType, VmDescriptors, VmSpec
from katapy.protocol import names

CONSOLE, BOOT, AGENT = "console", "boot", "agent"
"""Ids of chardevs and of their devices."""

AGENT_PORT_ID = "port-agent"
"""Id of the agent's virtio-serial port: VSERPORT_CHANGE names it."""

_MEMORY = "memory"

HOTPLUG_PORTS = 9
"""PCI Express slots for what is plugged in later. Eight cost the boot 0.03 s under TCG."""
SHARE_SLOT = f"slot-{HOTPLUG_PORTS - 1}"
"""Where a clone's share goes."""
MEMORY_SLOT = f"slot-{HOTPLUG_PORTS - 2}"
"""Where memory goes that a machine gets later."""


def escape(value: str) -> str:
    """A value inside a comma-separated option: QEMU wants commas doubled."""
    return value.replace(",", ",,")


def memory(spec: VmSpec, fds: VmDescriptors) -> list[str]:
    """Guest memory; vhost-user needs it shared with the daemon, so a memfd. Templates and clones are given theirs."""
    more = f",maxmem={spec.max_memory_mib}M" if spec.max_memory_mib > spec.memory_mib else ""
    size = ["-m", f"{spec.memory_mib}M{more}"]
    if fds.memory is not None:
        mode = "share=off,readonly=on,rom=off" if spec.private_memory else "share=on"
        backend = f"memory-backend-file,id={_MEMORY},size={spec.memory_mib}M,mem-path=/proc/self/fd/{fds.memory},{mode}"
    elif spec.share is not None and spec.share.type is ShareType.VIRTIOFS:
        backend = f"memory-backend-memfd,id={_MEMORY},size={spec.memory_mib}M,share=on"
    else:
        return size
    return [*size, "-object", backend, "-machine", f"memory-backend={_MEMORY}"]


def processors(spec: VmSpec) -> list[str]:
    """Those it starts with, and places for more: a socket each, because a Linux that sees no hypervisor (emulation)
    takes no processor later in a socket where one is already."""
    most = spec.max_vcpus
    more = f",maxcpus={most},sockets={most},cores=1,threads=1" if most > spec.vcpus else ""
    return ["-smp", f"{spec.vcpus}{more}"]


def root_disk(spec: VmSpec) -> list[str]:
    """The image: read-only for QEMU too, so that its lock lets any number of machines have it."""
    node = {
        "driver": "raw",
        "node-name": "root",
        "read-only": True,
        "file": {"driver": "file", "filename": spec.image, "read-only": True, "locking": "auto"},
    }
    disk = "virtio-blk-pci,id=disk-root,drive=root"
    return ["-blockdev", json.dumps(node), "-device", _modern(disk)]


def serial_ports(spec: VmSpec, fds: VmDescriptors) -> list[str]:
    """Console and boot port; the agent's port where it is the transport."""
    argv = ["-device", _modern("virtio-serial-pci,id=serial")]
    argv += ["-chardev", _socket(CONSOLE, fds.console)]
    if spec.debug_console:
        argv += ["-serial", f"chardev:{CONSOLE}"]
    else:
        argv += ["-device", f"virtconsole,id=port-console,chardev={CONSOLE}"]
    argv += _port(BOOT, names.BOOT_PORT, _socket(BOOT, fds.boot))
    if fds.agent is not None:
        argv += _port(AGENT, names.AGENT_PORT, f"{_socket(AGENT, fds.agent)},server=on,wait=off")
    return argv


def vsock(spec: VmSpec, fds: VmDescriptors) -> list[str]:
    """The kernel's vsock back end, by a descriptor the supervisor opened: QEMU's user may not."""
    if fds.vhost_vsock is None:
        return []
    return ["-device", f"vhost-vsock-pci,id=vsock,vhostfd={fds.vhost_vsock},guest-cid={spec.cid}"]


def share(spec: VmSpec, fds: VmDescriptors) -> list[str]:
    """The pod's shared directory. A clone's command line has the back end alone: see `share_device`."""
    if spec.share is None:
        return []
    backend = _share_backend(spec.share, fds)
    if spec.role is Role.CLONE:
        return backend
    return [*backend, "-device", ",".join(_option(k, v) for k, v in share_device(spec.share).items())]


def share_device(spec: ShareSpec) -> dict[str, str | int]:
    """Its device, as device_add takes it: `driver` comes first."""
    if spec.type is ShareType.VIRTIOFS:
        return {"driver": "vhost-user-fs-pci", "id": "share", "chardev": "share", "tag": spec.tag, "queue-size": 1024}
    modern = {"disable-legacy": "on"}
    return {"driver": "virtio-9p-pci", "id": "share-9p", "fsdev": "share", "mount_tag": spec.tag, **modern}


def _share_backend(spec: ShareSpec, fds: VmDescriptors) -> list[str]:
    if spec.type is ShareType.VIRTIOFS:
        if fds.virtiofs is None:
            raise ValueError("a virtio-fs share needs the descriptor of virtiofsd's socket")
        return ["-chardev", _socket("share", fds.virtiofs)]
    return ["-fsdev", f"local,id=share,path={escape(spec.directory)},security_model=passthrough,multidevs=remap"]


def _option(key: str, value: str | int) -> str:
    return str(value) if key == "driver" else f"{key}={escape(str(value))}"


def entropy(spec: VmSpec) -> list[str]:
    """Random numbers, and the mark of a clone."""
    argv = ["-object", "rng-builtin,id=rng", "-device", _modern("virtio-rng-pci,id=rng-device,rng=rng")]
    if spec.generation_id:
        argv += ["-device", "vmgenid,id=generation,guid=auto"]
    return argv


def hotplug_ports() -> list[str]:
    """Empty slots, `slot-0` and up: without them nothing can be plugged into these machines later."""
    argv = []
    for number in range(HOTPLUG_PORTS):
        argv += ["-device", f"pcie-root-port,id=slot-{number},bus=pcie.0,chassis={number + 1},io-reserve=0"]
    return argv


def qmp(fds: VmDescriptors) -> list[str]:
    """The control channel."""
    return ["-chardev", _socket("qmp", fds.qmp), "-mon", "chardev=qmp,mode=control"]


def saving(spec: VmSpec, fds: VmDescriptors) -> list[str]:
    """A control channel of its own for saving and loading; a clone waits for what it is to load."""
    if fds.monitor is None:
        return []
    monitor = ["-chardev", _socket("monitor", fds.monitor), "-mon", "chardev=monitor,mode=control"]
    return [*monitor, "-incoming", "defer"] if spec.role is Role.CLONE else monitor


def _port(name: str, port: str, chardev: str) -> list[str]:
    return ["-chardev", chardev, "-device", f"virtserialport,id=port-{name},chardev={name},name={port}"]


def _socket(name: str, fd: int) -> str:
    return f"socket,id={name},fd={fd}"


def _modern(device: str) -> str:
    """Without the registers of virtio 0.9: no I/O ports to map, less for a hostile guest to poke at."""
    return f"{device},disable-legacy=on"
