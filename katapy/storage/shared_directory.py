"""The pod's shared directory: everything of the host that a guest sees, and nothing else. Runs in the supervisor.

    <directory>/                      a tmpfs, read-only to whoever serves it: the guest can't restructure it
    <directory>/<container>/rootfs    bind mount
    <directory>/@<n>/mounts/0         what containers bind (storage/volumes)

The tree lives in a mount namespace of the supervisor and dies with it. It is a shared mount, so that binds made later
reach the namespace of virtiofsd. Every bind is nodev and nosuid on the host: what the guest makes of a file's mode is
the guest's affair. A read-only bind is read-only here, not only in the guest.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from katapy.errors import HostError, Unsupported, errno_text
from katapy.linux import mount, mount_tree, namespaces
from katapy.linux.user_namespace import IdRange, open_user_namespace
from katapy.protocol import names
from katapy.storage.overlay import Overlay, mount_overlay


class ReadOnly(Enum):
    """TOP: not what is mounted below it (`ro` with `rbind`, as runc has it); ALL: that too (`rro`)."""

    NO = 0
    TOP = 1
    ALL = 2


@dataclass(frozen=True, slots=True)
class IdMap:
    """An idmapped mount: (id of the source, id that is shown, how many). recursive: what is mounted below it too."""

    uids: tuple[IdRange, ...]
    gids: tuple[IdRange, ...]
    recursive: bool


@dataclass(frozen=True, slots=True)
class Bind:
    """What is shared: a directory or file of the host, or an overlay. `recursive`: with the mounts below it.

    `tree`: a detached copy of it (a descriptor, the caller's), for a path that this mount namespace does not show.
    """

    source: str
    readonly: ReadOnly
    recursive: bool
    tree: int | None = None
    id_map: IdMap | None = None
    overlay: Overlay | None = None

    def open(self) -> int:
        """A detached copy (a descriptor, the caller's) of what this mount namespace shows. Raises OSError."""
        return open_tree(self.source, self.recursive) if self.overlay is None else mount_overlay(self.overlay)

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """`tree`, or a copy that is closed after the block. Raises OSError."""
        if self.tree is not None:
            yield self.tree
            return
        tree = self.open()
        try:
            yield tree
        finally:
            os.close(tree)


_SAFE = mount_tree.MOUNT_ATTR_NODEV | mount_tree.MOUNT_ATTR_NOSUID
_TMPFS = "mode=0755,size=4m"


def enter_private_mounts() -> None:
    """A mount namespace for the calling process: it sees the host's new mounts and shows none of its own. HostError."""
    try:
        namespaces.unshare(["mount"])
        mount.mount("none", "/", flags=mount.MS_REC | mount.MS_SLAVE)
    except OSError as e:
        raise HostError(f"can't make a private mount namespace: {errno_text(e)}; katapy needs CAP_SYS_ADMIN") from e


class SharedDirectory:
    """Makes `directory` (it must not exist) and owns it. Only in a private mount namespace. Raises HostError."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._inside = -1
        with contextlib.ExitStack() as undo:  # only of what is made here: an existing directory is somebody's share
            try:
                os.mkdir(directory, 0o700)
                undo.callback(os.rmdir, directory)
                self._inside = _mount_top(directory)
            except OSError as e:
                raise HostError(f"can't make the shared directory {directory}: {errno_text(e)}") from e
            undo.pop_all()

    def add_rootfs(self, container_id: str, path: str, tree: int | None = None) -> str:
        """Shares a root file system, with the mounts below it. `tree`: see Bind. Its path in the guest.

        Raises HostError, Unsupported.
        """
        self._make_folder(container_id)
        return self._add(f"{container_id}/rootfs", Bind(path, ReadOnly.NO, True, tree))

    def add_mount(self, container_id: str, n: int, bind: Bind) -> str:
        """Its path in the guest. Raises HostError, Unsupported (sockets, FIFOs, devices: dead in the guest)."""
        self._make_folder(container_id)
        self._make_folder(f"{container_id}/mounts")
        return self._add(f"{container_id}/mounts/{n}", bind)

    def remove_container(self, container_id: str) -> None:
        """Unshares all of a container; nothing of the sources is touched. Idempotent. Raises HostError."""
        try:
            self._remove(_component(container_id))
        except OSError as e:
            raise HostError(f"can't unshare {container_id}: {errno_text(e)}") from e

    def close(self) -> None:
        """Unmounts everything. Idempotent; what is busy goes when it is free."""
        if self._inside >= 0:
            os.close(self._inside)
            self._inside = -1
            with contextlib.suppress(OSError):  # unmounted by somebody else: what we want
                mount.umount(self.directory, mount.MNT_DETACH)
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(self.directory)

    def _make_folder(self, name: str) -> None:
        _component(name.split("/")[0])
        try:
            with contextlib.suppress(FileExistsError):
                self._mkdir(name)
        except OSError as e:
            raise HostError(f"can't share {name}: {errno_text(e)}") from e

    def _mkdir(self, name: str) -> None:
        """0755 whatever the umask: root of a user namespace in the guest must come through."""
        os.mkdir(name, dir_fd=self._inside)
        os.chmod(name, 0o755, dir_fd=self._inside)

    def _add(self, place: str, bind: Bind) -> str:
        try:
            with bind.opened() as tree:
                self._make_place(place, bind.source, os.fstat(tree).st_mode)
                if bind.id_map is not None:
                    _map_ids(tree, bind.source, bind.id_map)
                _attach(tree, f"{self.directory}/{place}", bind.readonly)
        except OSError as e:
            raise HostError(f"can't share {bind.source}: {errno_text(e)}") from e
        return f"{names.GUEST_SHARED}/{place}"

    def _make_place(self, place: str, source: str, mode: int) -> None:
        if stat.S_ISDIR(mode):
            self._mkdir(place)
        elif stat.S_ISREG(mode):
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=self._inside))
        else:
            raise Unsupported(f"can't share {source} with a guest: only files and directories can be")

    def _remove(self, container_id: str) -> None:
        """The plain entries are seen through `_inside`, where nothing is mounted on them."""
        for name in (*(f"mounts/{n}" for n in self._entries(f"{container_id}/mounts")), "mounts", "rootfs", ""):
            place = f"{container_id}/{name}" if name else container_id
            if name not in ("", "mounts"):
                with contextlib.suppress(OSError):  # never mounted, or gone with its source
                    mount.umount(f"{self.directory}/{place}", mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
            self._remove_entry(place)

    def _entries(self, folder: str) -> list[str]:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._inside)
        except FileNotFoundError:
            return []
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def _remove_entry(self, place: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            try:
                os.rmdir(place, dir_fd=self._inside)
            except NotADirectoryError:
                os.unlink(place, dir_fd=self._inside)


def _mount_top(directory: str) -> int:
    """A tmpfs whose only name in the tree is read-only. Returns a descriptor (the caller's) that can change it."""
    flags = mount.MS_NODEV | mount.MS_NOSUID | mount.MS_NOEXEC
    mount.mount("katapy", directory, "tmpfs", flags, _TMPFS)
    with contextlib.ExitStack() as undo:
        undo.callback(mount.umount, directory, mount.MNT_DETACH)
        inside = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        undo.callback(os.close, inside)
        view = mount_tree.clone_tree(inside, recursive=False)
        undo.callback(os.close, view)
        mount_tree.set_attributes(view, mount_tree.MOUNT_ATTR_RDONLY)
        mount.umount(directory, mount.MNT_DETACH)  # `inside` keeps the writable mount alive, without a place
        mount_tree.attach_tree(view, directory)
        mount.mount("none", directory, flags=mount.MS_SHARED)
        undo.pop_all()
    os.close(view)
    return inside


def open_tree(source: str, recursive: bool) -> int:
    """A detached copy (a descriptor, the caller's) of the mount at `source`, or of those below too. Raises OSError."""
    fd = mount_tree.open_without_links(os.path.realpath(source))
    try:
        return mount_tree.clone_tree(fd, recursive)
    finally:
        os.close(fd)


def _attach(tree: int, target: str, readonly: ReadOnly) -> None:
    mount_tree.set_attributes(tree, _SAFE)
    if readonly is not ReadOnly.NO:
        mount_tree.set_attributes(tree, mount_tree.MOUNT_ATTR_RDONLY, recursive=readonly is ReadOnly.ALL)
    mount_tree.attach_tree(tree, target)


def _map_ids(tree: int, source: str, id_map: IdMap) -> None:
    try:
        user_namespace = open_user_namespace(id_map.uids, id_map.gids)
        try:
            mount_tree.map_ids(tree, user_namespace, id_map.recursive)
        finally:
            os.close(user_namespace)
    except OSError as e:
        where = f" ({e.filename})" if e.filename else ""
        raise HostError(f"can't map the ids of the mount of {source}: {errno_text(e)}{where}") from e


def _component(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is no container id")
    return name
