"""Does a path of the host lead through one of these directories, by whatever name? Runs in the supervisor.

Directories are told by device and inode, so links and bind mounts of the host that lead into one are seen. As the
kernel resolves a path: component by component, and a link's text takes the place of its name.
"""

import os
import stat
from collections.abc import Collection

_MAX_LINKS = 40
"""As many as the kernel follows (path_resolution(7))."""
_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

Inode = tuple[int, int]
"""Device, inode."""


def path_below(path: str, directories: Collection[Inode]) -> tuple[Inode, str] | None:
    """The first of `directories` that the absolute `path` enters, and the rest of the path, which was not looked at.

    None if there is none, nothing of the path is left there, or it can't be followed.
    """
    place = os.open("/", _OPEN)
    ahead, links = _components(path), 0
    try:
        while ahead:
            found = os.open(ahead.pop(), _OPEN, dir_fd=place)
            status = os.fstat(found)
            if stat.S_ISLNK(status.st_mode):
                target = os.readlink("", dir_fd=found)
                os.close(found)
                ahead += _components(target)
                links += 1
                if links > _MAX_LINKS:
                    return None
                if not target.startswith("/"):
                    continue
                found = os.open("/", _OPEN)
            os.close(place)
            place = found
            if (status.st_dev, status.st_ino) in directories:
                return ((status.st_dev, status.st_ino), "/".join(reversed(ahead))) if ahead else None
    except OSError:  # whoever is to use the path says so
        return None
    finally:
        os.close(place)
    return None


def _components(path: str) -> list[str]:
    """Last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]
