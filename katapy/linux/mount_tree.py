"""The mount calls that take descriptors: openat2, open_tree, mount_setattr, move_mount, fsopen. Runs in the supervisor.

A bind mount made in three steps has its flags before anybody can see it, and names its source by a descriptor, so that
nothing can be swapped in between. System calls by number: the C library of Debian 12 lacks some, and the numbers are
equal on all architectures (Linux 5.12 or newer).
"""

import os
import struct
from collections.abc import Iterable

from katapy.linux.syscall import syscall

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
_MOUNT_ATTR_IDMAP = 0x100000

_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442

_OPEN_TREE_CLONE = 0x1
_FSOPEN_CLOEXEC = 0x1
_FSMOUNT_CLOEXEC = 0x1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RESOLVE_IN_ROOT = 0x10


def open_without_links(path: str) -> int:
    """An O_PATH descriptor (the caller's) of `path`, in which no component may be a symlink. Raises OSError (ELOOP)."""
    return _open(_AT_FDCWD, path, _RESOLVE_NO_SYMLINKS)


def open_beneath(folder: int, path: str) -> int:
    """An O_PATH descriptor (the caller's) of the relative `path`, without links and never above `folder`. OSError."""
    return _open(folder, path, _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH)


def open_in_root(root: int, path: str) -> int:
    """An O_PATH descriptor (the caller's) of `path` as a process sees it whose root is `root`. Raises OSError."""
    return _open(root, path, _RESOLVE_NO_MAGICLINKS | _RESOLVE_IN_ROOT)


def _open(folder: int, path: str, resolve: int) -> int:
    how = struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC, 0, resolve)
    return syscall(path, _SYS_OPENAT2, folder, os.fsencode(path), how, len(how))


def clone_tree(fd: int, recursive: bool) -> int:
    """A detached copy (a descriptor, the caller's) of the mount behind `fd`, or of those below too. Raises OSError."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    return syscall(f"/proc/self/fd/{fd}", _SYS_OPEN_TREE, fd, b"", flags)


def new_mount(kind: str, options: Iterable[tuple[str, str | None]]) -> int:
    """A detached mount (a descriptor, the caller's) of a new file system. An option without a value: None. OSError."""
    context = syscall(kind, _SYS_FSOPEN, kind.encode(), _FSOPEN_CLOEXEC)
    try:
        for key, value in options:
            how = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
            text = None if value is None else os.fsencode(value)
            syscall(key, _SYS_FSCONFIG, context, how, os.fsencode(key), text, 0)
        syscall(kind, _SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return syscall(kind, _SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(context)


def set_attributes(tree: int, attributes: int, recursive: bool = True) -> None:
    """Adds MOUNT_ATTR flags to every mount of a tree, or to its top only. Raises OSError."""
    _change(tree, attributes, recursive)


def map_ids(tree: int, user_namespace: int, recursive: bool) -> None:
    """Has a tree, or its top only, show the ids that a user namespace (a descriptor) gives to its own. Raises OSError
    (EINVAL: a file system that can't; EPERM: mapped already)."""
    _change(tree, _MOUNT_ATTR_IDMAP, recursive, user_namespace)


def _change(tree: int, attributes: int, recursive: bool, user_namespace: int = 0) -> None:
    change = struct.pack("=QQQQ", attributes, 0, 0, user_namespace)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    syscall(f"/proc/self/fd/{tree}", _SYS_MOUNT_SETATTR, tree, b"", flags, change, len(change))


def attach_tree(tree: int, target: str) -> None:
    """Mounts a detached tree on `target`. Raises OSError."""
    syscall(target, _SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
