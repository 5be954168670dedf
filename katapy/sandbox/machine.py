"""From a SandboxPlan to a machine that boots: mounts, virtiofsd, QEMU. Supervisor only, before asyncio and grpc are
imported.

Everything is entered into the caller's ExitStack, so that a failure, or the end, undoes it in reverse.
"""

import contextlib
import json
import os
import time
from dataclasses import dataclass

from katapy.config import Config
from katapy.errors import ConfigError
from katapy.hypervisor.drivers import load_driver
from katapy.hypervisor.vm import ShareSpec, Transport, Vm, VmSpec
from katapy.protocol import names
from katapy.sandbox.plan import ContainerPlan, SandboxPlan
from katapy.storage.shared_directory import SharedDirectory
from katapy.storage.virtiofsd import VirtiofsdProcess, start_virtiofsd

_ENTROPY_BYTES = 64


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that was started. `secret` is what the agent must be told with every call."""

    vm: Vm
    secret: str
    shared: SharedDirectory
    virtiofsd: VirtiofsdProcess | None


@dataclass(frozen=True, slots=True)
class Image:
    """A guest image on disk: paths of its parts, and the kernel parameters it asks for."""

    kernel: str
    initrd: str
    root: str
    kernel_parameters: tuple[str, ...]


def load_image(directory: str) -> Image:
    """The image in `directory`. Raises ConfigError if it is not there or damaged."""
    directory = os.path.realpath(directory)
    try:
        with open(f"{directory}/image.json", encoding="utf-8") as f:
            parameters = json.load(f)["kernel_parameters"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigError(f"no usable guest image in {directory} ({e}): build it with `make image`") from e
    return Image(f"{directory}/vmlinux", f"{directory}/initrd", f"{directory}/rootfs.erofs", tuple(parameters))


def start_machine(plan: SandboxPlan, config: Config, directory: str, stack: contextlib.ExitStack) -> Machine:
    """Starts the machine. Needs a private mount namespace.

    Raises HostError and its like.
    """
    image = load_image(config.image.dir)
    shared = stack.enter_context(contextlib.closing(SharedDirectory(f"{directory}/shared")))
    spec = machine_spec(plan, config, image, shared.directory, os.getpid())
    daemon = virtiofs = None
    if plan.facts.virtiofsd is not None:
        daemon = stack.enter_context(
            contextlib.closing(start_virtiofsd(plan.facts.virtiofsd, shared.directory, directory))
        )
        virtiofs = daemon.connection.fileno()
    vm = stack.enter_context(contextlib.closing(load_driver(config.hypervisor.driver).spawn(spec, directory, virtiofs)))
    secret = new_secret()
    vm.send_boot_message(boot_message(secret, spec.transport))
    return Machine(vm, secret, shared, daemon)


def share_container(shared: SharedDirectory, container: ContainerPlan) -> None:
    """Shows the guest a container's root file system and mounts. Raises HostError, Unsupported."""
    shared.add_rootfs(container.id, container.rootfs)
    for bind in container.binds:
        shared.add_mount(container.id, bind.index, bind.source, bind.readonly, bind.recursive)


def machine_spec(plan: SandboxPlan, config: Config, image: Image, served: str, pid: int) -> VmSpec:
    """Pure.

    `pid`: the supervisor's; QEMU's user is the first of the configured range plus it, so no two machines share
    one.
    """
    facts = plan.facts
    uid = config.users.first_uid + pid
    return VmSpec(
        name=plan.id,
        arch=facts.arch,
        binary=facts.qemu,
        accelerator=facts.accelerator,
        machine=config.hypervisor.machine,
        cpu=facts.cpu_model,
        vcpus=plan.vcpus,
        memory_mib=plan.memory_mib,
        kernel=image.kernel,
        initrd=image.initrd,
        image=image.root,
        kernel_parameters=(*image.kernel_parameters, *config.hypervisor.kernel_parameters),
        transport=facts.transport,
        share=ShareSpec(facts.share, names.SHARE_TAG, served),
        uid=uid,
        gid=uid,
        groups=facts.groups,
        generation_id=facts.generation_id,
        debug_console=config.debug.console,
    )


def new_secret() -> str:
    """For one machine: 64 hexadecimal digits."""
    return os.urandom(32).hex()


def boot_message(secret: str, transport: Transport) -> bytes:
    """The line the agent reads once, before it serves (docs/design.md, Channel)."""
    message = {
        "version": names.PROTOCOL_VERSION,
        "secret": secret,
        "transport": transport.value,
        "entropy": os.urandom(_ENTROPY_BYTES).hex(),
        "unix_nanoseconds": time.time_ns(),
    }
    return json.dumps(message).encode() + b"\n"
