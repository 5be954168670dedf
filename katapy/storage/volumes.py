"""What containers of a pod bind: a directory or file of the host is shared once, however many of them mount it.

Runs in the supervisor. Shared twice it would be two inodes for the guest: what one container writes the other would
see late; a lock, an inotify watch, a socket or a FIFO of one would be nothing to the other. What is the same is said by
device, inode, mapped ids and the flags of the host's mount: where one path is read-only or noexec on the host and
another is not, each keeps its rights. A read-only mount uses what another container may write to, if there is such: the
guest keeps that container from writing.

What is below a volume that the guest may write to, or could before, is the guest's to change: a source there must be
what is found there without links, or a link that somebody puts into its path would lead anywhere on the host.
"""

import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from katapy.errors import HostError, errno_text
from katapy.linux import mount_tree
from katapy.storage.overlay import Overlay
from katapy.storage.path_below import Inode, path_below
from katapy.storage.shared_directory import Bind, IdMap, ReadOnly, SharedDirectory

_FLAGS = os.ST_RDONLY | os.ST_NOEXEC


class _Identity(NamedTuple):
    device: int
    inode: int
    flags: int
    recursive: bool
    id_map: IdMap | None

    @property
    def directory(self) -> Inode:
        """What it is of, whatever its mount adds."""
        return self.device, self.inode


@dataclass(slots=True)
class _Volume:
    identity: _Identity
    readonly: ReadOnly
    source: str
    name: str
    path: str
    users: set[str] = field(default_factory=set)


class Volumes:
    """Those of one machine, in its shared directory."""

    def __init__(self, shared: SharedDirectory) -> None:
        self._shared = shared
        self._volumes: list[_Volume] = []
        self._left: dict[Inode, _Volume] = {}
        """Those that the guest could write to, and that nobody uses any more."""
        self._number = 0

    def add(self, container_id: str, bind: Bind) -> str:
        """Shares it with the guest for a container; its path there. Raises as SharedDirectory.add_mount."""
        with contextlib.ExitStack() as stack:
            try:
                tree = stack.enter_context(bind.opened())
                status, mounted = os.fstat(tree), os.fstatvfs(tree)
            except OSError as e:
                raise HostError(f"can't share {bind.source}: {errno_text(e)}") from e
            if bind.overlay is None:
                self._check_links(bind.source, status)
            else:
                self._check_overlay(bind.overlay)
            flags = mounted.f_flag & _FLAGS
            identity = _Identity(status.st_dev, status.st_ino, flags, bind.recursive, bind.id_map)
            volume = self._find(identity, bind.readonly) or self._share(identity, replace(bind, tree=tree))
        volume.users.add(container_id)
        return volume.path

    def drop(self, container_id: str) -> None:
        """Unshares what nobody else uses. Idempotent. Raises HostError, having tried all."""
        unused = []
        for volume in self._volumes:
            volume.users.discard(container_id)
            if not volume.users:
                unused.append(volume)
        self._volumes = [volume for volume in self._volumes if volume.users]
        self._left |= {volume.identity.directory: volume for volume in unused if volume.readonly is ReadOnly.NO}
        failures = []
        for volume in unused:
            try:
                self._shared.remove_container(volume.name)
            except HostError as e:
                failures.append(e)
        if failures:
            raise failures[0]

    def _check_links(self, source: str, found: os.stat_result) -> None:
        """Raises HostError if `source` leads through a writable volume, and `found` is not what is there."""
        for volume, rest in self._on_the_way(source):
            try:
                place = self._open(volume)
                try:
                    inside = mount_tree.open_beneath(place, rest)
                    try:
                        same = os.path.samestat(os.fstat(inside), found)
                    finally:
                        os.close(inside)
                finally:
                    os.close(place)
            except OSError as e:
                raise HostError(f"can't share {source}: {errno_text(e)}: {volume.source} is the pod's to change") from e
            if not same:
                raise HostError(f"can't share {source}: it leads out of {volume.source}, which is the pod's to change")

    def _check_overlay(self, overlay: Overlay) -> None:
        """Its mount does not say which directories it is of."""
        for path in overlay.directories:
            for volume, _ in self._on_the_way(path):
                raise HostError(f"can't share an overlay of {path}: {volume.source} is the pod's to change")

    def _open(self, volume: _Volume) -> int:
        """A descriptor of what is shared, or was: its source is still what it was. Raises OSError."""
        place = f"{self._shared.directory}/{volume.name}/mounts/0" if volume.users else volume.source
        return os.open(place, os.O_PATH | os.O_CLOEXEC)

    def _on_the_way(self, source: str) -> list[tuple[_Volume, str]]:
        """Writable volumes that `source` leads through, and what of it is below: by their names, or by other ones."""
        left = [v for v in self._left.values() if _inode(v.source) == v.identity.directory]
        writable = [*(v for v in self._volumes if v.readonly is ReadOnly.NO), *left]
        named = [(v, source.removeprefix(f"{v.source}/")) for v in writable if source.startswith(f"{v.source}/")]
        if named or not writable:
            return named
        found = path_below(source, {v.identity.directory for v in writable})
        return [(v, found[1]) for v in writable if v.identity.directory == found[0]] if found else []

    def _find(self, identity: _Identity, readonly: ReadOnly) -> _Volume | None:
        """One with the same rights, else one with more of them. What is below a mount can only be kept by the host."""
        found = [volume for volume in self._volumes if volume.identity == identity]
        enough = {readonly} | ({ReadOnly.NO} if readonly is ReadOnly.TOP else set())
        ranked = sorted((v for v in found if v.readonly in enough), key=lambda v: v.readonly is not ReadOnly.NO)
        return ranked[0] if ranked else None

    def _share(self, identity: _Identity, bind: Bind) -> _Volume:
        self._number += 1
        name = f"@{self._number}"  # no container's id
        try:
            path = self._shared.add_mount(name, 0, bind)
        except BaseException:
            self._shared.remove_container(name)
            raise
        volume = _Volume(identity, bind.readonly, bind.source, name, path)
        self._volumes.append(volume)
        return volume


def _inode(path: str) -> Inode | None:
    """None where there is nothing: it may be mounted there no more."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
