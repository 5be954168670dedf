"""Detached copies of a container's root file system and of what it binds, for a supervisor that is elsewhere. CLI only.

The supervisor of a pod has a mount namespace of its own. What an engine mounts after it was forked appears there only
where the host's mounts are shared. So the sources are opened where they are seen, in the mount namespace of the
stand-in (hooks may have mounted something there), and handed on as descriptors: no path is looked up twice.
"""

import os
import socket
from collections.abc import Iterable

from katapy.errors import HostError, Unsupported, errno_text
from katapy.linux import namespaces
from katapy.sandbox.plan import ContainerPlan
from katapy.storage.shared_directory import Bind, ReadOnly

_MAX_WORDS = 4096
MAX_BINDS = 240
"""The kernel passes 253 descriptors at once."""


def open_trees(container: ContainerPlan, standin_pid: int) -> list[int]:
    """Descriptors (the caller's) of the root file system and the binds, in the plan's order. HostError, Unsupported."""
    if len(container.binds) > MAX_BINDS:
        raise Unsupported(f"{len(container.binds)} bind mounts: a container of a pod can have {MAX_BINDS}")
    sources = [Bind(container.rootfs, ReadOnly.NO, True), *(bind.of_tree(None) for bind in container.binds)]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        _child(sources, standin_pid, theirs)
    theirs.close()
    with ours:
        words, fds, _, _ = socket.recv_fds(ours, _MAX_WORDS, len(sources), socket.MSG_CMSG_CLOEXEC)
    os.waitpid(pid, 0)
    if len(fds) != len(sources):
        for fd in fds:
            os.close(fd)
        raise HostError(f"can't share {words.decode(errors='replace') or 'the root file system'}")
    return fds


def _child(sources: Iterable[Bind], standin_pid: int, channel: socket.socket) -> None:
    """In the fork. Never returns."""
    source = ""
    try:
        namespaces.join("mount", f"/proc/{standin_pid}/ns/mnt")
        trees = []
        for bind in sources:
            source = bind.source
            trees.append(bind.open())
        socket.send_fds(channel, [b"trees"], trees)
    except OSError as e:
        channel.send(f"{source}: {errno_text(e)}".encode()[:_MAX_WORDS])
    finally:
        os._exit(0)
