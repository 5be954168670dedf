"""The QEMU driver: from a VmSpec to a process that runs. Runs in the supervisor, before asyncio is imported, and in
the CLI when a template is made.
"""

import contextlib
import dataclasses
import functools
import os

from katapy.errors import HostError, HypervisorError, errno_text
from katapy.hypervisor.qemu import devices, memory, migration
from katapy.hypervisor.qemu.cmdline import build_argv
from katapy.hypervisor.qemu.descriptors import QemuEnds
from katapy.hypervisor.qemu.jail import enter_jail, jail_entries
from katapy.hypervisor.qemu.process import QemuVm
from katapy.hypervisor.vm import Role, ShareType, Transport, VmDescriptors, VmSpec
from katapy.linux.process import Confinement, spawn_confined
from katapy.protocol import names

_NOFILE = 4096
_RESTORE_S = 30.0
"""For QEMU to start and to load a template; it takes a tenth of a second."""

MEMORY, STATE = "memory", "state"
"""Files of a saved machine."""

_NINEP_CAPABILITIES = frozenset({"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID"})
"""With 9p it is QEMU itself that makes files of any owner; its jail leaves it nothing but the share to do it in."""


class QemuDriver:
    """Protocol Driver."""

    def spawn(self, spec: VmSpec, state_dir: str, virtiofs: int | None = None) -> QemuVm:
        """See vm.Driver.spawn. A QEMU that is refused its command line is noticed by `connect`. Raises HostError."""
        return _start(spec, state_dir, virtiofs, None)

    def fingerprint(self, spec: VmSpec) -> list[str]:
        """The command line of the machine that is saved, without what differs from one to the next."""
        same = dataclasses.replace(spec, role=Role.TEMPLATE, share=None, name="", uid=0, gid=0, groups=(), cid=3)
        vsock = 6 if spec.transport is Transport.VSOCK else None
        agent = None if vsock else 6
        return build_argv(same, VmDescriptors(3, 4, 5, agent=agent, vhost_vsock=vsock, memory=7, monitor=8))

    def save(self, spec: VmSpec, state_dir: str, target: str, line: bytes, deadline_s: float) -> None:
        """See vm.Driver.save."""
        with contextlib.ExitStack() as stack:
            pages = memory.new_memory(spec.memory_mib, spec.uid)
            stack.callback(os.close, pages)
            vm = _start(spec, state_dir, None, pages)
            stack.callback(vm.close)
            vm.send_boot_message(line)
            vm.wait_phase(names.TEMPLATE_PHASE, deadline_s)
            _write(f"{target}/{STATE}", migration.save(vm.monitor(_RESTORE_S)))
            try:
                file = os.open(f"{target}/{MEMORY}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
                stack.callback(os.close, file)
                memory.copy_without_zeros(pages, file)
            except OSError as e:
                raise HostError(f"can't save a template in {target}: {errno_text(e)}") from e

    def restore(self, spec: VmSpec, state_dir: str, source: str, virtiofs: int | None = None) -> QemuVm:
        """See vm.Driver.restore."""
        with contextlib.ExitStack() as stack:
            try:
                with open(f"{source}/{STATE}", "rb") as f:
                    state = f.read()
                pages = saved = os.open(f"{source}/{MEMORY}", os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, saved)
                if os.fstat(saved).st_size != spec.memory_mib * memory.MIB:
                    raise HypervisorError(f"the template {source} is damaged: its memory has another size")
                if not spec.private_memory:
                    pages = memory.new_memory(spec.memory_mib, spec.uid)
                    stack.callback(os.close, pages)
                    memory.copy(saved, pages)
            except OSError as e:
                raise HostError(f"can't read the template {source}: {errno_text(e)}") from e
            vm = _start(spec, state_dir, virtiofs, pages)
            undo = stack.enter_context(contextlib.ExitStack())
            undo.callback(vm.close)
            monitor = vm.monitor(_RESTORE_S)
            migration.load(monitor, state)
            if spec.share is not None:
                monitor.execute("device_add", {**devices.share_device(spec.share), "bus": devices.SHARE_SLOT})
            monitor.execute("cont")
            vm.close_monitor()
            undo.pop_all()
        return vm


def _start(spec: VmSpec, state_dir: str, virtiofs: int | None, pages: int | None) -> QemuVm:
    with QemuEnds(spec, state_dir, virtiofs, pages) as ends:
        argv = build_argv(dataclasses.replace(spec, cid=ends.cid), ends.numbers)
        child = spawn_confined(
            argv,
            _confinement(spec),
            descriptors=ends.mapping,
            stderr=ends.stderr,
            prepare=functools.partial(enter_jail, jail_entries(spec), state_dir),
        )
    return QemuVm(spec, child, ends.host, state_dir, ends.agent_socket, ends.cid)


def _write(path: str, data: bytes) -> None:
    try:
        with open(path, "xb") as f:
            f.write(data)
    except OSError as e:
        raise HostError(f"can't write {path}: {errno_text(e)}") from e


def _confinement(spec: VmSpec) -> Confinement:
    """A network namespace that nobody else is in (taps come as descriptors), and no capability but what 9p needs."""
    ninep = spec.share is not None and spec.share.type is ShareType.NINEP
    return Confinement(
        uid=spec.uid,
        gid=spec.gid,
        groups=spec.groups,
        capabilities=_NINEP_CAPABILITIES if ninep else frozenset(),
        namespaces=("mount", "network", "ipc"),
        nofile=_NOFILE,
    )
