"""What a template does before it is saved, so that its clones have done it already. Runs in the agent.

Every driver is loaded, every call that makes a container is made once, over gRPC: that imports what is imported late,
fills the page cache with crun and its libraries and nothing else, and warms the interpreter. At the end what is free is
filled with zeros, which the host does not save. A machine that is not sound never becomes a template.
"""

import contextlib
import json
import mmap
import os
import secrets
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from katapy.agent import modules
from katapy.agent.reaper import Reaper
from katapy.agent.service.gate import Gate
from katapy.errors import AgentError, HostError
from katapy.linux import mount, proc
from katapy.protocol import agent_pb2 as pb
from katapy.protocol import agent_pb2_grpc, names

_FOLDER = f"{names.GUEST_RUN}/rehearsal"
_ID = "rehearsal"
_CALL_S = 60.0
_MADV_POPULATE_WRITE = 23
_RESERVE = 48 * 1024 * 1024
"""Free memory that is left alone when the rest is zeroed: to touch it all would wake the OOM killer."""


async def rehearse(gate: Gate, reaper: Reaper) -> None:
    """Raises AgentError if this machine can't be a template, OSError, grpc.RpcError."""
    await load_modules(reaper)
    _drop_caches()
    await make_a_container(gate)
    check_kernel()
    _zero_free_memory()


async def load_modules(reaper: Reaper) -> None:
    """Every driver of the image: a clone finds its devices plugged in and must not search. AgentError."""
    folder = f"/usr/lib/modules/{os.uname().release}"
    wanted = sorted(name.removesuffix(".ko") for name in os.listdir(folder) if name.endswith(".ko"))
    with contextlib.suppress(HostError):  # which one it was is said below
        await modules.load(reaper, *wanted)
    there = modules.loaded()
    if missing := [name for name in wanted if name.replace("-", "_") not in there]:
        raise AgentError(f"this machine can't be a template: no module {', '.join(missing)}")


def check_kernel(path: str = "/proc/sys/kernel/tainted") -> None:
    """A kernel that has warned or oopsed would hand its damage on to every clone. Raises AgentError."""
    with open(path, encoding="ascii") as file:
        tainted = int(file.read())
    if tainted:
        raise AgentError(f"this machine can't be a template: its kernel is tainted ({tainted})")


async def make_a_container(gate: Gate) -> None:
    """With a secret of its own, which is forgotten again. In a clone, an emulator translates all this code by it."""
    secret = secrets.token_hex(32)
    gate.open(secret)
    root = f"{_FOLDER}/rootfs"
    for name in ("usr", "proc", "dev", "sys"):
        os.makedirs(f"{root}/{name}")
    for name in ("lib", "lib64"):
        os.symlink(f"usr/{name}", f"{root}/{name}")
    mount.mount("/usr", f"{root}/usr", "", mount.MS_BIND)
    try:
        async with grpc.aio.insecure_channel(f"unix:{names.GUEST_AGENT_SOCKET}") as channel:
            await _calls(agent_pb2_grpc.AgentStub(channel), ((names.SECRET_METADATA, secret),))
    finally:
        gate.close()
        mount.umount(f"{root}/usr", mount.MNT_DETACH)
        _remove(root)


async def _calls(stub: Any, metadata: Any) -> None:
    def call(name: str, request: Any) -> Any:
        return getattr(stub, name)(request, metadata=metadata, timeout=_CALL_S)

    await call("Hello", pb.HelloRequest(protocol_version=names.PROTOCOL_VERSION))
    await call("UpdateNetwork", pb.UpdateNetworkRequest())
    await call("CreateContainer", pb.CreateContainerRequest(container_id=_ID, spec_json=_spec()))
    stdio = stub.Stdio(_input(), metadata=metadata, timeout=_CALL_S)
    this = pb.ContainerRequest(container_id=_ID)
    await call("StartContainer", this)
    await call("Wait", pb.ProcessRequest(container_id=_ID))
    async for _ in stdio:
        pass
    await call("RemoveContainer", this)


async def _input() -> AsyncIterator[pb.StdioInput]:
    yield pb.StdioInput(open=pb.ProcessRequest(container_id=_ID))
    yield pb.StdioInput(close_stdin=pb.Empty())


def _spec() -> bytes:
    """What engines ask for, in little."""
    kinds = ("pid", "ipc", "uts", "mount", "network", "cgroup")
    inert = ["nosuid", "noexec", "nodev"]
    return json.dumps({
        "ociVersion": "1.0.2",
        "root": {"path": f"{_FOLDER}/rootfs", "readonly": True},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/usr/bin/busybox", "true"],
            "env": ["PATH=/usr/bin"],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted")},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": inert},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*inert, "ro"]},
        ],
        "linux": {
            "cgroupsPath": f"{names.GUEST_CGROUP_ROOT}/{_ID}",
            "namespaces": [{"type": kind} for kind in kinds],
            "resources": {"pids": {"limit": 100}, "devices": [{"allow": False, "access": "rwm"}]},
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}],
            },
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
        },
    }).encode()  # fmt: skip


def _remove(root: str) -> None:
    for entry in os.listdir(root):
        path = f"{root}/{entry}"
        if os.path.islink(path):
            os.unlink(path)
        else:
            os.rmdir(path)
    os.rmdir(root)
    os.rmdir(_FOLDER)


def _drop_caches() -> None:
    """What the boot has read. What a container needs is read again by the one that follows, and stays."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")


def _zero_free_memory() -> None:
    free = proc.memory_kib("MemFree") * 1024
    if free > _RESERVE:
        with mmap.mmap(-1, free - _RESERVE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
            area.madvise(_MADV_POPULATE_WRITE)
