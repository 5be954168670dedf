"""The QEMU driver: from a VmSpec to a process that runs. Runs in the supervisor, before asyncio is imported."""

import dataclasses
import functools

from katapy.hypervisor.qemu.cmdline import build_argv
from katapy.hypervisor.qemu.descriptors import QemuEnds
from katapy.hypervisor.qemu.jail import enter_jail, jail_entries
from katapy.hypervisor.qemu.process import QemuVm
from katapy.hypervisor.vm import ShareType, VmSpec
from katapy.linux.process import Confinement, spawn_confined

_NOFILE = 4096

_NINEP_CAPABILITIES = frozenset({"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID"})
"""With 9p it is QEMU itself that makes files of any owner; its jail leaves it nothing but the share to do it in."""


class QemuDriver:
    """Protocol Driver."""

    def spawn(self, spec: VmSpec, state_dir: str, virtiofs: int | None = None) -> QemuVm:
        """See vm.Driver.spawn. A QEMU that is refused its command line is noticed by `connect`. Raises HostError."""
        with QemuEnds(spec, state_dir, virtiofs) as ends:
            argv = build_argv(dataclasses.replace(spec, cid=ends.cid), ends.numbers)
            child = spawn_confined(
                argv,
                _confinement(spec),
                descriptors=ends.mapping,
                stderr=ends.stderr,
                prepare=functools.partial(enter_jail, jail_entries(spec), state_dir),
            )
        return QemuVm(spec, child, ends.host, state_dir, ends.agent_socket, ends.cid)


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
