"""A root file system whose changes stay in the guest: an overlay of the shared one and a tmpfs. Runs in the agent.

Small files are written many times faster than through the share, and the host never sees them. They take the guest's
memory, and are charged to the container whose process writes them.
"""

import os

from katapy.errors import HostError
from katapy.linux import mount
from katapy.protocol import names

_FLAGS = mount.MS_NODEV


def mount_root(container_id: str) -> None:
    """Makes names.guest_writable_root(container_id). Raises HostError; then nothing is left of it."""
    place = f"{names.GUEST_WRITES}/{container_id}"
    lower = f"{names.GUEST_SHARED}/{container_id}/rootfs"
    try:
        os.makedirs(place, 0o711)
        mount.mount("writes", place, "tmpfs", _FLAGS, "mode=0711")
        for name in ("upper", "work", "root"):
            os.mkdir(f"{place}/{name}", 0o755)
        _look_like(f"{place}/upper", lower)
        options = f"lowerdir={lower},upperdir={place}/upper,workdir={place}/work"
        mount.mount("writes", names.guest_writable_root(container_id), "overlay", _FLAGS, options)
    except OSError as error:
        unmount_root(container_id)
        raise HostError(f"can't mount a root for writes in the guest: {error.strerror}") from error


def _look_like(upper: str, lower: str) -> None:
    """The overlay's root is the upper one.

    Opening the lower one mounts it: with virtio-fs it is an automount point, which overlay refuses until then.
    """
    fd = os.open(lower, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    os.chmod(upper, status.st_mode & 0o7777)
    os.chown(upper, status.st_uid, status.st_gid)


def unmount_root(container_id: str) -> None:
    """Takes it away with all that was written, if it is there."""
    place = f"{names.GUEST_WRITES}/{container_id}"
    if os.path.isdir(place):
        for path in (f"{place}/root", place):
            if os.path.ismount(path):
                mount.umount(path, mount.MNT_DETACH)
        os.rmdir(place)
