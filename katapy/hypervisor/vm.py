"""What a virtual machine is to katapy: VmSpec (frozen, pure data) and the narrow Driver/Vm protocols.

Runs in the supervisor. Nothing here imports asyncio or grpc: `Driver.spawn` is called before the heavy imports, so that
they happen while the guest boots.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Accelerator(StrEnum):
    KVM = "kvm"
    TCG = "tcg"


class Transport(StrEnum):
    VSOCK = "vsock"
    SERIAL = "serial"


class ShareType(StrEnum):
    VIRTIOFS = "virtiofs"
    NINEP = "9p"


class Role(StrEnum):
    """How a machine comes to life: it boots; it boots to be saved as a template; it goes on where a template stood."""

    BOOT = "boot"
    TEMPLATE = "template"
    CLONE = "clone"


@dataclass(frozen=True, slots=True)
class Size:
    """Of a machine: number of processors, memory in MiB."""

    vcpus: int
    memory_mib: int


@dataclass(frozen=True, slots=True)
class ShareSpec:
    """The pod's shared directory. `directory` is a host path, valid in the mount namespace that QEMU is started in."""

    type: ShareType
    tag: str
    directory: str


@dataclass(frozen=True, slots=True)
class VmSpec:
    """Everything that shapes the virtual machine's command line, but for descriptors (VmDescriptors).

    `kernel_parameters`: the image's own, then the user's. `generation_id`: a vmgenid device, which tells the guest that
    it was cloned. `max_vcpus`, `max_memory_mib`: how far it can grow while it runs (see Vm.resize); no more than the
    size itself means that it can't. `debug_console`: a slow serial console that shows the kernel's first words. `role`:
    a template has no share; a clone gets it plugged in.
    """

    name: str
    arch: str
    binary: str
    accelerator: Accelerator
    machine: str
    cpu: str
    vcpus: int
    memory_mib: int
    kernel: str
    initrd: str
    image: str
    kernel_parameters: tuple[str, ...] = ()
    transport: Transport = Transport.SERIAL
    cid: int = 0
    share: ShareSpec | None = None
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    generation_id: bool = True
    max_vcpus: int = 0
    max_memory_mib: int = 0
    debug_console: bool = False
    role: Role = Role.BOOT

    @property
    def private_memory(self) -> bool:
        """A clone that reads the template's memory and copies what it writes; virtiofsd would not see the copies."""
        return self.role is Role.CLONE and (self.share is None or self.share.type is not ShareType.VIRTIOFS)


@dataclass(frozen=True, slots=True)
class VmDescriptors:
    """Numbers of the descriptors QEMU inherits, in its own process. Pure data for the command line's sake.

    qmp, boot, console: connected stream sockets; agent: a listening unix socket (transport serial);
    virtiofs: a connected stream socket to virtiofsd; vhost_vsock: an open /dev/vhost-vsock. Templates and clones:
    memory: a file that is the guest's memory; monitor: a connected stream socket for saving and loading.
    """

    qmp: int
    boot: int
    console: int
    agent: int | None = None
    virtiofs: int | None = None
    vhost_vsock: int | None = None
    memory: int | None = None
    monitor: int | None = None


@dataclass(frozen=True, slots=True)
class VmExit:
    """Why the machine is gone. `reason` is one line; `tail` is what console and QEMU's stderr said last."""

    status: int
    reason: str
    tail: str = field(default="", repr=False)


class Vm(Protocol):
    """A machine that runs. Owns its process, its sockets and its console reader."""

    pid: int
    agent_socket: str
    cid: int

    @property
    def phases(self) -> list[tuple[str, float]]:
        """Milestones that the guest reported: name, seconds since its kernel started. Hearsay."""

    def close(self) -> None:
        """Kills, reaps and closes everything, without a loop. Idempotent."""

    async def connect(self, deadline_s: float) -> None:
        """QMP handshake. Raises HypervisorError with the log tails if QEMU is gone."""

    def wait_phase(self, name: str, deadline_s: float) -> None:
        """Waits, without a loop, for the guest to report that milestone. HypervisorError, Timeout."""

    async def agent_ready(self, deadline_s: float) -> None:
        """Returns when the guest opened the agent port (serial) or at once (vsock). HypervisorError, Timeout."""

    def send_boot_message(self, line: bytes) -> None:
        """Hands the one-time boot message (a JSON line) to the guest. Once."""

    async def plug_nic(self, tap: int, mac: str) -> str:
        """A network card whose other end is the descriptor `tap` (the caller's), with a hardware address such as
        02:00:00:00:00:01; its id. Raises HypervisorError."""

    async def unplug_nic(self, card: str) -> None:
        """Takes a card away. Raises Timeout if the guest does not let it go, HypervisorError."""

    async def plug_disk(self, fd: int, readonly: bool) -> str:
        """A disk with the open block device `fd` (the caller's) behind it; its id, which is its serial number, too.
        Raises HypervisorError."""

    async def unplug_disk(self, disk: str) -> None:
        """As `unplug_nic`. What the guest has written is in the device then."""

    async def resize(self, size: Size) -> None:
        """Offers the guest processors and memory up to that size, or asks it to give back what is more; it may take its
        time for either. Raises HypervisorError, Timeout (a processor that the guest does not let go)."""

    async def size(self) -> Size:
        """What the machine has now: memory that the guest does not give back counts."""

    async def ask_again(self) -> None:
        """Reminds the guest of memory that it should have given back. Raises HypervisorError."""

    def keep_console(self, path: str) -> None:
        """What the guest says from now on goes to that file."""

    def kill(self) -> None:
        """SIGKILL, at once. Idempotent."""

    async def wait(self) -> VmExit:
        """Returns when QEMU has ended, for whatever reason. May be awaited by several tasks."""

    def tail(self, lines: int = 20) -> str:
        """Last lines of the guest console and of QEMU's stderr, control characters removed."""


class Driver(Protocol):
    def spawn(self, spec: VmSpec, state_dir: str, virtiofs: int | None = None) -> Vm:
        """Starts the machine without waiting for it. Synchronous, before any thread exists.

        `virtiofs`: a stream socket connected to virtiofsd, where the share is of that type; it stays the caller's, who
        closes it afterwards. `<state_dir>/agent.sock` is the way to the agent (transport serial). Raises HostError.
        """

    def fingerprint(self, spec: VmSpec) -> list[str]:
        """What of `spec` shapes a template. Pure."""

    def save(self, spec: VmSpec, state_dir: str, target: str, line: bytes, deadline_s: float) -> None:
        """Boots a machine (role TEMPLATE) with the boot message `line`, and saves it once it has said TEMPLATE_PHASE.

        Into the folder `target`. Synchronous. Raises HostError, HypervisorError, Timeout.
        """

    def restore(self, spec: VmSpec, state_dir: str, source: str, virtiofs: int | None = None) -> Vm:
        """As `spawn`, for role CLONE and what `save` left in the folder `source`: returns once the guest goes on.

        It waits for its boot message. Raises HostError, HypervisorError, Timeout.
        """
