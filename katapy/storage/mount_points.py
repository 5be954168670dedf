"""Mount points that an image lacks, made in its root file system for a user namespace. Runs in the supervisor.

In the guest crun makes what is missing, as root of the container. CAP_DAC_OVERRIDE of a user namespace does not reach
the files of the share, so it can't in a directory that nobody may write to, as the root of many images is.
"""

import contextlib
import logging
import os
from dataclasses import dataclass

from katapy.errors import errno_text
from katapy.linux import mount_tree

log = logging.getLogger(__name__)

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class MountPoints:
    """`directories` and `files`: absolute paths in the root file system. uid, gid: who is to own what is made."""

    directories: tuple[str, ...]
    files: tuple[str, ...]
    uid: int
    gid: int


def make(rootfs: str, points: MountPoints) -> None:
    """Makes what is not there. No link leads out of `rootfs`. What can't be made is a warning: crun will say more."""
    try:
        root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        log.warning("can't make mount points in %s: %s", rootfs, errno_text(e))
        return
    try:
        places = [(path, False) for path in points.directories] + [(path, True) for path in points.files]
        for path, is_file in places:
            try:
                _make(root, path, is_file, points)
            except OSError as e:
                log.warning("can't make the mount point %s: %s", path, errno_text(e))
    finally:
        os.close(root)


def _make(root: int, path: str, is_file: bool, points: MountPoints) -> None:
    names = [name for name in path.split("/") if name]
    with contextlib.ExitStack() as stack:
        parent = root
        for depth, name in enumerate(names, start=1):
            try:
                found = mount_tree.open_in_root(root, "/".join(names[:depth]))
            except FileNotFoundError:
                found = _add(parent, name, is_file and depth == len(names), points)
            stack.callback(os.close, found)
            parent = found


def _add(parent: int, name: str, is_file: bool, points: MountPoints) -> int:
    """A new file or directory, by its descriptor (the caller's). OSError, also where a link leads nowhere."""
    if is_file:
        made = os.open(name, _NEW_FILE, 0o644, dir_fd=parent)
    else:
        os.mkdir(name, 0o700, dir_fd=parent)
        made = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        os.fchown(made, points.uid, points.gid)
        os.fchmod(made, 0o644 if is_file else 0o755)
    except BaseException:
        os.close(made)
        raise
    return made
