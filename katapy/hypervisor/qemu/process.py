"""A QEMU process: watched, and ended. Supervisor only; imports asyncio and qemu.qmp only after the spawn."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any, TypeVar

from katapy.errors import HypervisorError, Timeout
from katapy.hypervisor.qemu import devices
from katapy.hypervisor.qemu.bootport import BootPort
from katapy.hypervisor.qemu.console import OutputLog
from katapy.hypervisor.qemu.descriptors import HostEnds
from katapy.hypervisor.qemu.monitor import Monitor
from katapy.hypervisor.qemu.slots import Slots
from katapy.hypervisor.vm import Size, Transport, VmExit, VmSpec
from katapy.linux.process import Spawned

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from katapy.hypervisor.qemu.disks import Disks
    from katapy.hypervisor.qemu.growth import Growth
    from katapy.hypervisor.qemu.nics import Nics
    from katapy.hypervisor.qemu.qmp import QmpChannel

T = TypeVar("T")

_READ = 64 * 1024
_LAST_READS = 8
"""Reads of each output at the end; a socket holds about four."""
_QMP_FLUSH_S = 0.5
_MAX_BOOT_MESSAGE = 64 * 1024

_REASONS = {
    "guest-panic": "the guest's kernel panicked",
    "guest-reset": "the guest reset the machine: its kernel panicked, or its init ended",
    "guest-shutdown": "the guest switched the machine off",
    "host-qmp-quit": "the machine was told to quit",
    "host-signal": "qemu was told to end by a signal",
}


class QemuVm:
    """One machine (protocol Vm). Owns QEMU's process, its pidfd and `ends`. `agent_socket` leads to the agent."""

    def __init__(
        self, spec: VmSpec, child: Spawned, ends: HostEnds, state_dir: str, agent_socket: str, cid: int
    ) -> None:
        self.pid = child.pid
        self.cid = cid
        self.agent_socket = agent_socket
        self._spec = spec
        self._pidfd = child.pidfd
        self._ends = ends
        self._console = OutputLog(os.path.join(state_dir, "console.log"))
        self._stderr = OutputLog()
        self._boot = BootPort()
        self._qmp: QmpChannel | None = None
        self._nics: Nics | None = None
        self._disks: Disks | None = None
        self._grown: Growth | None = None
        self._slots = Slots()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._exit: asyncio.Task[VmExit] | None = None
        self._killed = False
        self._reaped = False

    @property
    def phases(self) -> list[tuple[str, float]]:
        """Milestones, as the guest tells them: name, seconds since its kernel started."""
        return list(self._boot.phases)

    # -- start ------------------------------------------------------------------------------------------------------

    async def connect(self, deadline_s: float) -> None:
        """Control channel up; idempotent. Raises HypervisorError with the log tails, Timeout."""
        from katapy.hypervisor.qemu.qmp import QmpChannel

        self._watch()
        if self._qmp is not None:
            return
        channel = QmpChannel(devices.AGENT_PORT_ID)
        await self._before_death(channel.connect(self._ends.qmp), deadline_s, "qemu's control channel did not come up")
        self._qmp = channel
        if self._spec.transport is Transport.SERIAL:
            await self._before_death(
                channel.watch_agent_port(devices.AGENT), deadline_s, "qemu did not answer on its control channel"
            )

    async def agent_ready(self, deadline_s: float) -> None:
        """Returns when the guest has opened the agent's port (serial), or at once (vsock). HypervisorError, Timeout."""
        if self._spec.transport is Transport.SERIAL:
            channel = self._channel()
            await self._before_death(channel.agent_open.wait(), deadline_s, "the guest's agent did not come up")

    def send_boot_message(self, line: bytes) -> None:
        """Queues the boot message (a JSON line of at most 64 KiB) for the guest. Once. Raises HypervisorError."""
        if not line.endswith(b"\n") or len(line) > _MAX_BOOT_MESSAGE:
            raise ValueError(f"a boot message is one line of at most {_MAX_BOOT_MESSAGE} bytes")
        try:
            self._ends.boot.sendall(line)
        except OSError as e:
            raise HypervisorError(f"can't hand the boot message to qemu: {e}{self._quoted_tail()}") from e

    def wait_phase(self, name: str, deadline_s: float) -> None:
        """Waits, without a loop, for the guest to report that milestone. HypervisorError, Timeout."""
        deadline = time.monotonic() + deadline_s
        while all(phase != name for phase, _ in self._boot.phases):
            ready, _, _ = select.select([*self._outputs(), self._pidfd], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise Timeout(f"the guest did not come as far as {name!r}{self._quoted_tail()}", deadline_s)
            self._drain()
            if self._pidfd in ready:
                raise HypervisorError(f"the machine ended before {name!r}{_quoted(self._last_words())}")

    def monitor(self, deadline_s: float) -> Monitor:
        """What saving and loading speak over; only templates and clones have it. HypervisorError, Timeout."""
        assert self._ends.monitor is not None
        try:
            return Monitor(self._ends.monitor, deadline_s)
        except HypervisorError as e:
            raise HypervisorError(f"{e}{self._quoted_tail()}") from e

    def close_monitor(self) -> None:
        """The machine is loaded: nothing more is said there."""
        if self._ends.monitor is not None:
            self._ends.monitor.close()

    def _last_words(self) -> str:
        return "\n".join([*self._boot.log, self.tail()])

    # -- life -------------------------------------------------------------------------------------------------------

    async def plug_nic(self, tap: int, mac: str) -> str:
        """See vm.Vm."""
        return await self._cards().plug(tap, mac)

    async def unplug_nic(self, card: str) -> None:
        """See vm.Vm."""
        await self._cards().unplug(card)

    async def plug_disk(self, fd: int, readonly: bool) -> str:
        """See vm.Vm."""
        return await self._drives().plug(fd, readonly)

    async def unplug_disk(self, disk: str) -> None:
        """See vm.Vm."""
        await self._drives().unplug(disk)

    async def resize(self, size: Size) -> None:
        """See vm.Vm."""
        await self._growth().resize(size)

    async def size(self) -> Size:
        """See vm.Vm."""
        return await self._growth().size()

    async def ask_again(self) -> None:
        """See vm.Vm."""
        await self._growth().ask_again()

    def keep_console(self, path: str) -> None:
        """See vm.Vm."""
        self._console.move(path)

    def kill(self) -> None:
        """SIGKILL, at once. Idempotent."""
        self._killed = True
        if not self._reaped:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def wait(self) -> VmExit:
        """Returns when QEMU has ended, for whatever reason. May be awaited by several tasks."""
        import asyncio

        return await asyncio.shield(self._watch())

    def close(self) -> None:
        """Kills, reaps and closes everything, without a loop: for unwinding. Idempotent."""
        self.kill()
        if not self._reaped:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        self._release()

    def tail(self, lines: int = 20) -> str:
        """Last lines of the guest console and of QEMU's stderr, control characters removed."""
        self._drain(_LAST_READS)
        return "\n".join([*self._console.lines(lines), *(f"qemu: {line}" for line in self._stderr.lines(lines))])

    # -- inside -----------------------------------------------------------------------------------------------------

    def _channel(self) -> QmpChannel:
        if self._qmp is None:
            raise HypervisorError("qemu's control channel is not connected")
        return self._qmp

    def _cards(self) -> Nics:
        """Imported late: QMP is."""
        from katapy.hypervisor.qemu.nics import Nics

        if self._nics is None:
            self._nics = Nics(self._channel(), self._slots)
        return self._nics

    def _drives(self) -> Disks:
        """As `_cards`."""
        from katapy.hypervisor.qemu.disks import Disks

        if self._disks is None:
            self._disks = Disks(self._channel(), self._slots)
        return self._disks

    def _growth(self) -> Growth:
        """As `_cards`."""
        from katapy.hypervisor.qemu.growth import Growth

        if self._grown is None:
            self._grown = Growth(self._channel(), self._spec)
        return self._grown

    def _watch(self) -> asyncio.Task[VmExit]:
        """Readers of the running loop, and the task that notices QEMU's end; made by the first who asks."""
        import asyncio

        if self._exit is None:
            self._loop = asyncio.get_running_loop()
            for fd in self._outputs():
                self._loop.add_reader(fd, self._drain)
            ended = asyncio.Event()
            self._loop.add_reader(self._pidfd, ended.set)
            self._exit = self._loop.create_task(self._reap(ended))
        return self._exit

    async def _reap(self, ended: asyncio.Event) -> VmExit:
        await ended.wait()
        assert self._loop is not None
        self._loop.remove_reader(self._pidfd)
        status = self._collect()
        if self._qmp is not None:
            await self._qmp.close(_QMP_FLUSH_S)
        result = VmExit(status, self._reason(status), self.tail())
        self._release()
        return result

    def _collect(self) -> int:
        """QEMU's exit status; negative: the signal that ended it."""
        info = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        self._reaped = True
        assert info is not None
        return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status

    def _reason(self, status: int) -> str:
        if self._killed:
            return "the machine was killed"
        if self._qmp is not None and self._qmp.panicked:
            return _REASONS["guest-panic"]
        if self._qmp is not None and self._qmp.shutdown_reason:
            reason = self._qmp.shutdown_reason
            return _REASONS.get(reason, f"the machine ended: {reason}")
        if status == -signal.SIGKILL:
            return "qemu was ended by SIGKILL: by the host's kernel, if a cgroup above it ran out of memory"
        if status < 0:
            return f"qemu was ended by signal {signal.Signals(-status).name}"
        return f"qemu ended with status {status}"

    def _release(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            for fd in self._outputs():
                self._loop.remove_reader(fd)
        self._drain(_LAST_READS)
        self._ends.close()
        self._console.close()
        if self._grown is not None:
            self._grown.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self._reaped = True

    def _outputs(self) -> list[int]:
        fds = (self._ends.console.fileno(), self._ends.boot.fileno(), self._ends.stderr)
        return [fd for fd in fds if fd >= 0]

    def _drain(self, reads: int = 1) -> None:
        """Reads what is there, without waiting. A stream that has ended loses its reader: it is readable for ever."""
        sinks = {
            self._ends.console.fileno(): self._console.feed,
            self._ends.boot.fileno(): self._boot.feed,
            self._ends.stderr: self._stderr.feed,
        }
        for fd in self._outputs() * reads:
            try:
                data = os.read(fd, _READ)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                data = b""
            if data:
                sinks[fd](data)
            elif self._loop is not None:
                self._loop.remove_reader(fd)

    async def _before_death(self, work: Coroutine[Any, Any, T], deadline_s: float, what: str) -> T:
        """`work`, unless the deadline (Timeout) or QEMU's end (HypervisorError) comes first; both quote last words."""
        import asyncio

        death = self._watch()
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, death), timeout=max(0.0, deadline_s), return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not task.exception():
                return task.result()
            if not task.done() and not death.done():
                raise Timeout(f"{what}{self._quoted_tail()}", deadline_s)
            if not death.done():  # the channel broke: QEMU is about to be gone, and knows better why
                await asyncio.wait((death,), timeout=_QMP_FLUSH_S)
        finally:
            task.cancel()
        if death.done():
            end = death.result()
            raise HypervisorError(f"{what}: {end.reason}{_quoted(end.tail)}")
        return await task

    def _quoted_tail(self) -> str:
        return _quoted(self.tail())


def _quoted(tail: str) -> str:
    return f"; last words: {tail.replace(chr(10), ' | ')}" if tail else ""
