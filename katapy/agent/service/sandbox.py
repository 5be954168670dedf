"""Calls about the machine as a whole. Runs in the agent."""

import contextlib
import json
import os
import socket
from typing import Any

import katapy
from katapy.agent import hotplug, init, shares
from katapy.agent.growth import memory_bytes
from katapy.agent.machine import Machine
from katapy.errors import HostError, SpecError, WrongStatus
from katapy.linux import mount
from katapy.protocol import agent_pb2 as pb
from katapy.protocol import names

IMAGE = "/etc/katapy-image.json"
SHARE_TYPES = ("virtiofs", "9p")


class SandboxCalls:
    machine: Machine

    async def Hello(self, request: pb.HelloRequest, context: Any) -> pb.HelloReply:
        """Answers whatever the host's version: the host decides whether it can go on."""
        return pb.HelloReply(
            protocol_version=names.PROTOCOL_VERSION,
            agent_version=katapy.__version__,
            kernel_release=os.uname().release,
            image_version=str(_image().get("version", "")),
            memory_bytes=memory_bytes(),
            cpus=os.cpu_count() or 0,
            cgroup_controllers=_controllers(),
            phases=[pb.Phase(name=name, uptime_seconds=uptime) for name, uptime in self.machine.boot.phases],
        )

    async def CreateSandbox(self, request: pb.CreateSandboxRequest, context: Any) -> pb.Empty:
        """Mounts every share or none."""
        machine = self.machine
        if machine.sandbox_id is not None:
            raise WrongStatus("the sandbox exists already")
        init.set_clock(request.unix_nanoseconds)
        mounted: list[str] = []
        try:
            for share in request.shares:
                await _mount_share(share)
                mounted.append(share.target)
            _configure(request)
        except BaseException:
            for target in reversed(mounted):
                mount.umount(target, mount.MNT_DETACH)
            raise
        machine.shares = mounted
        machine.sandbox_id = request.sandbox_id
        return pb.Empty()

    async def DestroySandbox(self, request: pb.Empty, context: Any) -> pb.Empty:
        """Leaves nothing that writes to a share."""
        machine = self.machine
        for container_id in machine.containers.ids():
            await machine.containers.remove(container_id)
        machine.containers.memory_volumes.close()
        os.sync()
        for target in reversed(machine.shares):
            mount.umount(target, mount.MNT_DETACH)
        machine.shares = []
        machine.sandbox_id = None
        return pb.Empty()

    async def Events(self, request: pb.Empty, context: Any) -> None:
        """Until the channel closes. A new subscriber replaces an old one, whose channel may be dead."""
        with self.machine.events.subscribe() as queue:
            while (event := await queue.get()) is not None:
                await context.write(event)


async def _mount_share(share: pb.Share) -> None:
    """Waits for a device that is being plugged in. Raises SpecError, HostError."""
    if share.type not in SHARE_TYPES:
        raise SpecError(f"share type {share.type[:32]!r} is neither virtiofs nor 9p")
    if not share.target.startswith(f"{names.GUEST_RUN}/") or os.path.normpath(share.target) != share.target:
        raise SpecError(f"share target must be a path below {names.GUEST_RUN}")
    os.makedirs(share.target, mode=0o711, exist_ok=True)
    try:
        await hotplug.when_plugged_in(
            lambda: mount.mount(share.tag, share.target, share.type, mount.MS_NODEV, ",".join(share.options))
        )
        if share.type == "virtiofs":
            shares.watch_connections()
    except OSError as error:
        raise HostError(f"cannot mount share {share.tag} ({share.type}) in the guest: {error.strerror}") from error


def _configure(request: pb.CreateSandboxRequest) -> None:
    if request.hostname:
        try:
            socket.sethostname(request.hostname)
        except OSError as error:  # longer than the kernel's 64 bytes
            raise SpecError(f"cannot set the host name: {error.strerror}") from error


def _image() -> dict[str, Any]:
    """What the image says about itself; nothing if it says nothing."""
    with contextlib.suppress(FileNotFoundError, ValueError), open(IMAGE, encoding="utf-8") as file:
        document = json.load(file)
        if isinstance(document, dict):
            return document
    return {}


def _controllers() -> list[str]:
    with open(f"{init.CGROUP}/cgroup.controllers", encoding="ascii") as file:
        return file.read().split()
