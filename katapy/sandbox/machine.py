"""From a SandboxPlan to a machine that boots: mounts, virtiofsd, QEMU. Supervisor only, before asyncio and grpc are
imported.

Everything is entered into the caller's ExitStack, so that a failure, or the end, undoes it in reverse.
"""

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from katapy.config import Config
from katapy.errors import ConfigError, HostError, HypervisorError, Timeout, errno_text
from katapy.factory.store import Store
from katapy.hypervisor.drivers import load_driver
from katapy.hypervisor.vm import Role, ShareSpec, Size, Transport, Vm, VmSpec
from katapy.protocol import names
from katapy.sandbox.plan import ContainerPlan, HostFacts, MachinePlan, most_size
from katapy.storage import mount_points
from katapy.storage.shared_directory import SharedDirectory
from katapy.storage.virtiofsd import VirtiofsdProcess, start_virtiofsd
from katapy.storage.volumes import Volumes

_ENTROPY_BYTES = 64
_CLONE_SHARE = 2
_LEAST_CLONE_S = 10.0
"""A clone that works answers within a second; it gets half of the time that a boot may take, but this at least."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that was started. `secret` is what the agent must be told with every call.

    `undo` ends this machine and its virtiofsd, and leaves the share. `warning`: why it was not cloned, or empty.
    """

    vm: Vm
    secret: str
    shared: SharedDirectory
    volumes: Volumes
    virtiofsd: VirtiofsdProcess | None
    spec: VmSpec
    undo: contextlib.ExitStack
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """A guest image on disk: paths of its parts, the kernel parameters it asks for, and image.json as it stands."""

    kernel: str
    initrd: str
    root: str
    kernel_parameters: tuple[str, ...]
    description: str = ""


def load_image(directory: str) -> Image:
    """The image in `directory`. Raises ConfigError if it is not there or damaged."""
    directory = os.path.realpath(directory)
    try:
        with open(f"{directory}/image.json", encoding="utf-8") as f:
            description = f.read()
        parameters = json.loads(description)["kernel_parameters"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        reason = errno_text(e) if isinstance(e, OSError) else f"image.json is damaged: {e}"
        raise ConfigError(f"no usable guest image in {directory} ({reason}): build it with `make image`") from e
    kernel, initrd, root = (f"{directory}/{name}" for name in ("vmlinux", "initrd", "rootfs.erofs"))
    return Image(kernel, initrd, root, tuple(parameters), description)


@dataclass(frozen=True, slots=True)
class Starter:
    """Starts the machine of a plan, in a private mount namespace.

    `directory`: the state directory of its sandbox. `stack` undoes all that is started. `template`: folder of the
    template to clone, or empty.
    """

    plan: MachinePlan
    config: Config
    directory: str
    stack: contextlib.ExitStack
    template: str = ""

    def start(self) -> Machine:
        """A clone of the template, or a machine that boots. Raises HostError and its like."""
        shared, spec = self._prepare()
        if not self.template:
            return self._start(shared, spec)
        try:
            return self._start(shared, dataclasses.replace(spec, role=Role.CLONE))
        except (HypervisorError, HostError, Timeout) as e:
            machine = self._start(shared, spec)
            return dataclasses.replace(machine, warning=self._throw_away(e))

    def start_warm(self) -> Machine:
        """A clone that waits for its pod: its share is empty, its guest has what tells it from others, and serves.

        It is never another pod's: whoever takes it keeps it. Where it fails nothing boots in its place, and the
        template is thrown away. Raises HostError and its like.
        """
        shared, spec = self._prepare()
        try:
            machine = self._start(shared, dataclasses.replace(spec, role=Role.CLONE), rehearse=True)
            self._await_clone(machine)
        except (HypervisorError, HostError, Timeout) as e:
            self._throw_away(e)
            raise
        return machine

    def settle(self, machine: Machine) -> Machine:
        """Waits for a clone's first word; if it stays silent, the template is thrown away and a machine boots instead.

        Before asyncio and grpc have threads. Raises HostError and its like.
        """
        if machine.spec.role is not Role.CLONE:
            return machine
        try:
            self._await_clone(machine)
        except (HypervisorError, Timeout) as e:
            machine.undo.close()
            booted = self._start(machine.shared, dataclasses.replace(machine.spec, role=Role.BOOT))
            return dataclasses.replace(booted, warning=self._throw_away(e))
        return machine

    def _prepare(self) -> tuple[SharedDirectory, VmSpec]:
        """The share, and a machine that boots."""
        shared = self.stack.enter_context(contextlib.closing(SharedDirectory(f"{self.directory}/shared")))
        image = load_image(self.config.image.dir)
        return shared, machine_spec(self.plan, self.config, image, shared.directory, os.getpid())

    def _start(self, shared: SharedDirectory, spec: VmSpec, rehearse: bool = False) -> Machine:
        """virtiofsd, QEMU, and the boot message; a failure leaves neither."""
        with contextlib.ExitStack() as undo:
            daemon = virtiofs = None
            if (program := self.plan.facts.virtiofsd) is not None:
                daemon = undo.enter_context(
                    contextlib.closing(start_virtiofsd(program, shared.directory, self.directory))
                )
                virtiofs = daemon.connection.fileno()
            driver = load_driver(self.config.hypervisor.driver)
            if spec.role is Role.CLONE:
                vm = driver.restore(spec, self.directory, self.template, virtiofs)
            else:
                vm = driver.spawn(spec, self.directory, virtiofs)
            undo.enter_context(contextlib.closing(vm))
            secret = new_secret()
            vm.send_boot_message(boot_message(secret, spec.transport, rehearse))
            kept = self.stack.enter_context(undo.pop_all())
        return Machine(vm, secret, shared, Volumes(shared), daemon, spec, kept)

    def _await_clone(self, machine: Machine) -> None:
        """Its first word. Raises HypervisorError, Timeout."""
        limit_s = max(_LEAST_CLONE_S, self.config.timeouts.boot_s / _CLONE_SHARE)
        machine.vm.wait_phase(names.SERVING_PHASE, limit_s)

    def _throw_away(self, error: Exception) -> str:
        """The template. A warning that says why."""
        reason = str(error)
        try:
            Store(self.config.factory.dir).discard(os.path.basename(self.template), reason)
        except (HostError, OSError) as e:
            reason += f"; the template stays: {e}"
        return f"a cold boot, because the clone of a template failed: {reason}"


def share_container(machine: Machine, container: ContainerPlan, trees: Sequence[int] = ()) -> dict[int, str]:
    """Shows the guest a container's root file system and binds; the guest's path of each bind, by its index.

    `trees` (sandbox/trees): detached copies of them in the plan's order; without them the paths are opened here.
    Raises HostError, Unsupported; leaves nothing then.
    """
    tree = iter(trees)
    paths = {}
    try:
        machine.shared.add_rootfs(container.id, container.rootfs, next(tree, None))
        if container.mount_points is not None:
            mount_points.make(f"{machine.shared.directory}/{container.id}/rootfs", container.mount_points)
        for bind in container.binds:
            paths[bind.index] = machine.volumes.add(container.id, bind.of_tree(next(tree, None)))
    except BaseException:
        unshare_container(machine, container.id)
        raise
    return paths


def unshare_container(machine: Machine, container_id: str) -> None:
    """Takes all that away again. Idempotent. Raises HostError."""
    try:
        machine.volumes.drop(container_id)
    finally:
        machine.shared.remove_container(container_id)


def machine_spec(plan: MachinePlan, config: Config, image: Image, served: str, pid: int) -> VmSpec:
    """The machine of a sandbox, with its share. Pure. `pid`: see `bare_spec`."""
    spec = bare_spec(plan.facts, plan.vcpus, plan.memory_mib, config, image, pid)
    return dataclasses.replace(spec, name=plan.id, share=ShareSpec(plan.facts.share, names.SHARE_TAG, served))


def bare_spec(facts: HostFacts, vcpus: int, memory_mib: int, config: Config, image: Image, pid: int) -> VmSpec:
    """A machine of that size that nobody has yet. Pure.

    `pid`: of the process that starts it; QEMU's user is the first of the configured range plus it, so no two machines
    share one.
    """
    uid = config.users.first_uid + pid
    most = most_size(Size(vcpus, memory_mib), config.hypervisor, facts)
    return VmSpec(
        name="template",
        arch=facts.arch,
        binary=facts.qemu,
        accelerator=facts.accelerator,
        machine=config.hypervisor.machine,
        cpu=facts.cpu_model,
        vcpus=vcpus,
        memory_mib=memory_mib,
        max_vcpus=most.vcpus,
        max_memory_mib=most.memory_mib,
        kernel=image.kernel,
        initrd=image.initrd,
        image=image.root,
        kernel_parameters=(*image.kernel_parameters, *config.hypervisor.kernel_parameters),
        transport=facts.transport,
        uid=uid,
        gid=uid,
        groups=facts.groups,
        generation_id=facts.generation_id,
        debug_console=config.debug.console,
    )


def new_secret() -> str:
    """For one machine: 64 hexadecimal digits."""
    return os.urandom(32).hex()


def boot_message(secret: str, transport: Transport, rehearse: bool = False) -> bytes:
    """The line the agent reads once, before it serves (docs/design.md, Channel). `rehearse`: there is time for it."""
    message = {
        "version": names.PROTOCOL_VERSION,
        "secret": secret,
        "transport": transport.value,
        "entropy": os.urandom(_ENTROPY_BYTES).hex(),
        "unix_nanoseconds": time.time_ns(),
        "rehearse": rehearse,
    }
    return json.dumps(message).encode() + b"\n"
