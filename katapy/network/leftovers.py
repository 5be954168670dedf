"""What a supervisor that was killed has left in its pod's network namespace: noted beforehand, removed by `delete`.

The taps went with QEMU, the filters on the pod's interfaces did not. Supervisor (writes) and CLI (reads). Standard
library only, no dataclasses: `delete` imports this.

A record: the namespace's path, its device and inode, then an interface index a line.
"""

import contextlib
import os
from collections.abc import Callable, Iterable

from katapy.errors import KatapyError, errno_text
from katapy.linux import namespaces
from katapy.linux.netlink import Netlink
from katapy.network import netns, redirect

_MAX_RECORD = 65536


def note(record: str, path: str, identity: os.stat_result, indexes: Iterable[int]) -> None:
    """Replaces the record. Raises OSError."""
    lines = [path, f"{identity.st_dev} {identity.st_ino}", *map(str, sorted(indexes))]
    fd = os.open(f"{record}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, "\n".join(lines).encode())
    finally:
        os.close(fd)
    os.rename(f"{record}.new", record)


def forget(record: str) -> None:
    """There is nothing left."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(record)


def remove(record: str, warn: Callable[[str], None]) -> None:
    """Takes away what the record tells of. A namespace that is gone has taken it along; errors are warnings."""
    try:
        with open(record, encoding="utf-8") as f:
            path, identity, *indexes = f.read(_MAX_RECORD).split("\n")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as e:
        warn(f"{record}: {e}")
        return
    if not os.path.exists(path):
        return
    try:
        _undo(path, identity, [int(index) for index in indexes if index])
    except OSError as e:
        warn(f"redirections in the network namespace {path} stay: {errno_text(e)}")
    except (KatapyError, ValueError) as e:
        warn(f"redirections in the network namespace {path} stay: {e}")


def _undo(path: str, identity: str, indexes: list[int]) -> None:
    fd = netns.open_namespace(path)
    try:
        status = os.fstat(fd)
        if f"{status.st_dev} {status.st_ino}" != identity:
            return  # another namespace has got the name
        with namespaces.entered("network", fd):
            netlink = Netlink()
        with netlink:
            for index in indexes:
                redirect.undo(netlink, index)
    finally:
        os.close(fd)
