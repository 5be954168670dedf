"""Volumes in the guest's memory: a tmpfs that the containers of the pod share. Runs in the agent.

The host's own tmpfs (/dev/shm, an emptyDir of medium Memory) can't be one for a guest: its pages are the host's.
"""

import contextlib
import os
import re
from collections.abc import Sequence

from katapy.errors import HostError, SpecError
from katapy.linux import mount
from katapy.protocol import agent_pb2 as pb
from katapy.protocol import names

_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_MODES = 0o7777


class MemoryVolumes:
    """Those of the machine."""

    def __init__(self) -> None:
        self._users: dict[str, set[str]] = {}
        self._kept: set[str] = set()

    def use(self, container_id: str, wanted: Sequence[pb.GuestTmpfs]) -> None:
        """Makes those that are not there. Raises SpecError, HostError; the container uses none of them then."""
        try:
            for volume in wanted:
                if not _NAME.fullmatch(volume.name):
                    raise SpecError(f"volume name {volume.name[:64]!r} has characters that do not belong there")
                if volume.name not in self._users:
                    _mount(volume)
                self._users.setdefault(volume.name, set()).add(container_id)
                if volume.kept:
                    self._kept.add(volume.name)
        except BaseException:
            self.drop(container_id)
            raise

    def drop(self, container_id: str) -> None:
        """The container uses them no more. Idempotent."""
        for name, users in list(self._users.items()):
            users.discard(container_id)
            if not users and name not in self._kept:
                self._remove(name)

    def close(self) -> None:
        for name in list(self._users):
            self._remove(name)

    def _remove(self, name: str) -> None:
        del self._users[name]
        self._kept.discard(name)
        path = f"{names.GUEST_TMPFS}/{name}"
        with contextlib.suppress(OSError):
            mount.umount(path, mount.MNT_DETACH)
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _mount(volume: pb.GuestTmpfs) -> None:
    path = f"{names.GUEST_TMPFS}/{volume.name}"
    data = f"size={volume.size_bytes},mode={volume.mode & _MODES:o},uid={volume.uid},gid={volume.gid}"
    try:
        os.makedirs(path, mode=0o711, exist_ok=True)
        mount.mount("katapy", path, "tmpfs", mount.MS_NOSUID | mount.MS_NODEV, data)
    except OSError as error:
        raise HostError(f"cannot make a volume of {volume.size_bytes} bytes in memory: {error.strerror}") from error
