"""Network namespaces of the host: what a path leads to, and making sockets inside of one. CLI and supervisor.

A socket belongs to the namespace it was made in, whatever its maker does later: the supervisor makes its sockets in
the pod's namespace, and works with them from its own.
"""

import fcntl
import os

from katapy.errors import HostError, Unsupported, errno_text
from katapy.linux import namespaces

_NS_GET_NSTYPE = 0xB703
_OWN = "/proc/thread-self/ns/net"


def check(path: str) -> None:
    """Raises HostError if `path` is no network namespace, Unsupported if it is the one the caller is in: the host's."""
    os.close(open_namespace(path))


def open_namespace(path: str) -> int:
    """A descriptor of the namespace, the caller's to close. Raises as `check`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise HostError(f"network namespace {path}: {errno_text(e)}") from e
    try:
        if _kind(fd) != namespaces.CLONE_FLAGS["network"]:
            raise HostError(f"network namespace {path}: this is no network namespace")
        if _identity(os.fstat(fd)) == _identity(os.stat(_OWN)):
            raise Unsupported(f"host networking is not supported: {path} is the host's network namespace")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _kind(fd: int) -> int:
    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        return 0


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
