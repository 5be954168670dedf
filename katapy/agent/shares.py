"""The pod's share as the guest's kernel sees it: its mounts, and what it still waits for. Runs in the agent.

With virtio-fs each directory that the host has bound into the share is a superblock of its own, mounted when it is
first entered. A container's root file system is mounted in the container's mount namespace only, and goes with it.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from katapy.agent.documents import shared_sources
from katapy.linux import mount

CONNECTIONS = "/sys/fs/fuse/connections"
_POLL_S = (0.002, 0.1)
"""First and longest pause between two looks: the kernel tells nobody when a request is answered."""


def enter_shares(spec: Mapping[str, Any]) -> None:
    """Has the kernel mount the shares that containers bind, here. Each is a mount of its own, made when it is first
    entered: by crun, that would be in the container's mount namespace, and the next container would get another one."""
    for source in shared_sources(spec):
        with contextlib.suppress(OSError):  # a file; or crun will say what is wrong with it
            os.close(os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def forget_files() -> None:
    """Drops names and inodes that nobody uses: for each the host's server of the share holds a descriptor, and with it
    the file system that an engine wants to take apart now."""
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("2")


class MountNamespaces:
    """Holds the mount namespaces of containers until the share's server owes them nothing.

    A file that is closed keeps its inode until the server has answered, and a read that is on its way keeps the file.
    If the superblock goes before, the kernel stops: "VFS: Busy inodes after unmount of virtiofs", a BUG in 6.12 as
    Debian builds it. It waits for nothing in virtio_kill_sb() unless the whole connection ends.
    """

    def __init__(self, connections: str = CONNECTIONS, forget: Callable[[], None] = forget_files) -> None:
        self._connections = connections
        self._forget = forget
        self._held: dict[str, int] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def hold(self, container_id: str, pid: int) -> None:
        """That of process `pid`. Raises OSError."""
        self._held[container_id] = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    async def let_go(self, container_id: str, limit_s: float) -> None:
        """Its processes have ended. What is not answered within the limit is waited for in the background: a namespace
        that stays is better than a kernel that stops. Idempotent."""
        fd = self._held.pop(container_id, -1)
        if fd < 0:
            return
        task = asyncio.create_task(self._close_when_answered(fd))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        if (await asyncio.wait((task,), timeout=limit_s))[1]:
            task.add_done_callback(lambda _: self._forget())

    async def _close_when_answered(self, fd: int) -> None:
        pause, longest = _POLL_S
        while self._waiting():
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
        await asyncio.to_thread(os.close, fd)  # the last umount asks the server once more, and waits

    def _waiting(self) -> int:
        """Requests that no server has answered yet, of all shares; those of other containers count too."""
        total = 0
        with contextlib.suppress(FileNotFoundError):  # no FUSE here
            for connection in os.listdir(self._connections):
                with open(f"{self._connections}/{connection}/waiting", encoding="ascii") as file:
                    total += int(file.read())
        return total


def watch_connections() -> None:
    """Mounts what tells of waiting requests. Raises OSError."""
    if not os.path.ismount(CONNECTIONS):
        mount.mount("fusectl", CONNECTIONS, "fusectl", mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC)
