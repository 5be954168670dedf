"""QEMU's view of the host's files: programs and libraries read-only, its image, with 9p its share, nothing else.

Runs in QEMU's process before exec, as root, in a mount namespace that is already its own.

A QEMU that a guest has taken over is an ordinary user here without so much as /etc to read. With 9p it also has the
capabilities to make files of any owner, and this is what keeps them to the share.
"""

import ctypes
import os
import stat
from dataclasses import dataclass

from katapy.hypervisor.vm import Accelerator, ShareType, VmSpec
from katapy.linux import mount, mount_tree

_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/urandom")
_KVM = "/dev/kvm"

_READONLY = mount_tree.MOUNT_ATTR_RDONLY | mount_tree.MOUNT_ATTR_NOSUID | mount_tree.MOUNT_ATTR_NODEV
_DEVICE = mount_tree.MOUNT_ATTR_NOSUID | mount_tree.MOUNT_ATTR_NOEXEC

_INERT = mount.MS_NOSUID | mount.MS_NODEV

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Entry:
    """A host path that is seen in the jail under the same name. `attributes`: MOUNT_ATTR flags."""

    path: str
    attributes: int = _READONLY
    recursive: bool = False
    optional: bool = False


def jail_entries(spec: VmSpec) -> list[Entry]:
    """What a machine's QEMU has to see. Pure."""
    entries = [Entry(path, optional=True) for path in _PROGRAMS]
    if not spec.binary.startswith(_PROGRAMS):  # a QEMU built by hand: /opt/qemu/bin/qemu-system-x86_64
        entries.append(Entry(os.path.dirname(os.path.dirname(spec.binary))))
    entries += [Entry(path) for path in dict.fromkeys((spec.kernel, spec.initrd, spec.image))]
    entries += [Entry(path, _DEVICE) for path in _DEVICES]
    if spec.accelerator is Accelerator.KVM:
        entries.append(Entry(_KVM, _DEVICE))
    if spec.share is not None and spec.share.type is ShareType.NINEP:  # else virtiofsd serves it
        entries.append(Entry(spec.share.directory, 0, recursive=True))
    return entries


def enter_jail(entries: list[Entry], place: str) -> None:
    """Makes the jail on `place`, any directory, and the caller's root. Raises OSError."""
    mount.mount("none", "/", flags=mount.MS_REC | mount.MS_SLAVE)  # binds that the share gets later still come in
    trees = [(entry, tree) for entry in entries if (tree := _clone(entry)) is not None]
    umask = os.umask(0o022)
    mount.mount("katapy", place, "tmpfs", _INERT, "mode=0755,size=1m")
    for entry, tree in trees:
        _place(place, entry, tree)
    os.mkdir(f"{place}/proc")  # 9p goes through /proc/self/fd
    mount.mount("proc", f"{place}/proc", "proc", _INERT | mount.MS_NOEXEC, "hidepid=2,subset=pid")
    os.umask(umask)
    mount.mount("none", place, flags=mount.MS_REMOUNT | mount.MS_BIND | mount.MS_RDONLY | _INERT)
    _change_root(place)


def _clone(entry: Entry) -> int | str | None:
    """A detached mount, or a symlink's target (/lib64 -> usr/lib64), or nothing."""
    if os.path.islink(entry.path) and entry.optional:
        return os.readlink(entry.path)
    try:
        fd = os.open(entry.path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        if entry.optional:
            return None
        raise
    try:
        tree = mount_tree.clone_tree(fd, entry.recursive)
    finally:
        os.close(fd)
    if entry.attributes:
        mount_tree.set_attributes(tree, entry.attributes)
    return tree


def _place(root: str, entry: Entry, tree: int | str) -> None:
    target = root + entry.path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if isinstance(tree, str):
        os.symlink(tree, target)
        return
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    mount_tree.attach_tree(tree, target)
    os.close(tree)


def _change_root(place: str) -> None:
    """The old root is stacked on the new one, and taken away."""
    os.chdir(place)
    if _libc.pivot_root(b".", b".") != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"pivot_root: {os.strerror(number)}", place)
    mount.umount(".", mount.MNT_DETACH)
    os.chdir("/")
