"""Handles of a container's namespaces: bind mounts that outlive its processes, for containers that join them.

Runs in the agent. crun finds them by the paths that the host has put into config.json (names.GUEST_NAMESPACES).
"""

import contextlib
import os

from katapy.linux import mount, namespaces
from katapy.protocol import names


def keep(container_id: str, pid: int) -> None:
    """Makes handles of the namespaces that process `pid` is in. Raises OSError; leaves nothing then."""
    folder = f"{names.GUEST_NAMESPACES}/{container_id}"
    try:
        os.makedirs(folder, mode=0o700)
        for kind in names.JOINABLE:
            handle = f"{folder}/{kind}"
            os.close(os.open(handle, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            mount.mount(f"/proc/{pid}/ns/{namespaces.entry(kind)}", handle, "", mount.MS_BIND)
    except BaseException:
        drop(container_id)
        raise


def drop(container_id: str) -> None:
    """Idempotent. Who has joined stays in them."""
    folder = f"{names.GUEST_NAMESPACES}/{container_id}"
    for kind in names.JOINABLE:
        with contextlib.suppress(OSError):  # never mounted
            mount.umount(f"{folder}/{kind}", mount.MNT_DETACH)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{folder}/{kind}")
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(folder)
