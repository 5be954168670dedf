"""QEMU's descriptors: both ends, made before the fork. Runs in the supervisor.

QEMU is given everything it talks through as a descriptor, so its user needs no path and may create none.
"""

import contextlib
import dataclasses
import fcntl
import os
import random
import socket
import struct
from types import TracebackType
from typing import Self

from katapy.errors import HostError, errno_text
from katapy.hypervisor.vm import Transport, VmDescriptors, VmSpec
from katapy.linux.socket_path import short_name

AGENT_SOCKET = "agent.sock"

_VHOST_VSOCK = "/dev/vhost-vsock"
_VHOST_VSOCK_SET_GUEST_CID = 0x4008AF60
_CID_TRIES = 50


class HostEnds:
    """The supervisor's ends of QEMU's descriptors; whoever holds this closes them."""

    def __init__(self, qmp: socket.socket, boot: socket.socket, console: socket.socket, stderr: int) -> None:
        self.qmp = qmp
        self.boot = boot
        self.console = console
        self.stderr = stderr
        self.monitor: socket.socket | None = None
        for fd in (boot.fileno(), console.fileno(), stderr):
            os.set_blocking(fd, False)

    def close(self) -> None:
        """Idempotent. The control channel belongs to qemu.qmp once it is connected; closing it twice is harmless."""
        for end in (self.qmp, self.boot, self.console, self.monitor):
            if end is not None:
                end.close()
        if self.stderr >= 0:
            os.close(self.stderr)
            self.stderr = -1


class QemuEnds:
    """The ends that QEMU inherits: `mapping` of its numbers to ours. A context manager: closed once QEMU has them."""

    def __init__(self, spec: VmSpec, state_dir: str, virtiofs: int | None, memory: int | None = None) -> None:
        self.mapping: dict[int, int] = {}
        self.cid = 0
        self.agent_socket = os.path.join(state_dir, AGENT_SOCKET)
        self._stack = contextlib.ExitStack()
        try:
            self._make(spec, state_dir, virtiofs, memory)
        except BaseException:
            self._stack.close()
            raise

    def _make(self, spec: VmSpec, state_dir: str, virtiofs: int | None, memory: int | None) -> None:
        qmp, boot, console = self._pair(), self._pair(), self._pair()
        read, self.stderr = self._pipe()
        vsock = agent = None
        if spec.transport is Transport.VSOCK:
            self.cid, fd = _open_vsock(spec.cid)
            self._stack.callback(os.close, fd)
            vsock = self._add(fd)
        else:
            agent = self._add(self._stack.enter_context(_listen(state_dir)).fileno())
        share = None if virtiofs is None else self._add(virtiofs)
        self.numbers = VmDescriptors(3, 4, 5, agent=agent, virtiofs=share, vhost_vsock=vsock)
        self.host = HostEnds(qmp, boot, console, read)
        if memory is not None:
            self._make_for_template(memory)

    def _make_for_template(self, memory: int) -> None:
        number = self._add(memory)
        self.host.monitor = self._pair()
        self.numbers = dataclasses.replace(self.numbers, memory=number, monitor=number + 1)

    def _add(self, fd: int) -> int:
        number = 3 + len(self.mapping)
        self.mapping[number] = fd
        return number

    def _pair(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        self._stack.enter_context(theirs)
        self._add(theirs.fileno())
        return ours

    def _pipe(self) -> tuple[int, int]:
        read, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(write, False)  # a QEMU that says too much loses words; it never waits for us
        self._stack.callback(os.close, write)
        return read, write

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.host.close()
        self._stack.close()


def _listen(state_dir: str) -> socket.socket:
    """The unix socket of the agent's port, for root alone."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        with contextlib.suppress(FileNotFoundError):  # of a clone that was given up
            os.unlink(f"{state_dir}/{AGENT_SOCKET}")
        with short_name(f"{state_dir}/{AGENT_SOCKET}") as name:
            listener.bind(name)
            os.chmod(name, 0o600)
        listener.listen(16)
    except OSError as e:
        listener.close()
        raise HostError(f"can't listen on {state_dir}/{AGENT_SOCKET}: {errno_text(e)}") from e
    return listener


def _open_vsock(wanted: int) -> tuple[int, int]:
    """The context id and the vhost-vsock descriptor that holds it; 0 picks a free one. Raises HostError."""
    try:
        fd = os.open(_VHOST_VSOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        raise HostError(f"can't open {_VHOST_VSOCK}: {errno_text(e)}; load vhost_vsock") from e
    for cid in [wanted] if wanted else (random.randrange(1 << 16, 1 << 31) for _ in range(_CID_TRIES)):
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, _VHOST_VSOCK_SET_GUEST_CID, struct.pack("=Q", cid))
            return cid, fd
    os.close(fd)
    raise HostError(f"vsock context id {wanted or 'of any number'} is taken")
