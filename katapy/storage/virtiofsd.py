"""virtiofsd: serves the shared directory to one machine. Runs in the supervisor; the daemon in a sandbox of its own.

Two programs have this name: the C one of QEMU up to 7.2, and the Rust one. Both take a listening socket by descriptor.
The supervisor connects to it at once and takes its name away: nobody else ever can. QEMU inherits that connection.

Coherence: what a container writes is on the host when write() returns; there is no writeback cache. What the host
writes is seen by the guest 20 ms later at most, less than an exec takes; with the Rust daemon, which has no such knob,
at once (docs/decisions/0001-shared-root.md). Locks are the guest's own: the host does not see them.
"""

import contextlib
import os
import signal
import socket
from dataclasses import dataclass
from enum import StrEnum

from katapy.errors import HostError
from katapy.linux.process import Confinement, Spawned, spawn_confined
from katapy.linux.socket_path import short_name

_SOCKET = "virtiofsd.sock"
_LISTENER = 3
"""The listening socket's number in the daemon."""
NOFILE = 524288
"""Each inode that the guest remembers is a descriptor of the daemon; a guest must not take all of the host's.

File handles in their place (the Rust daemon has them) need CAP_DAC_READ_SEARCH: who has it reads around its sandbox.
"""
_TAIL = 16 * 1024

# What it serves files with, and what it needs to build its sandbox (which then drops it).
_CAPABILITIES = frozenset({
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETGID", "CAP_SETUID", "CAP_MKNOD", "CAP_SETFCAP",
    "CAP_SYS_ADMIN", "CAP_SETPCAP",
})  # fmt: skip


class Flavour(StrEnum):
    C = "c"
    RUST = "rust"


@dataclass(frozen=True, slots=True)
class Virtiofsd:
    """An installed daemon; `version` is what it says of itself."""

    path: str
    flavour: Flavour
    version: tuple[int, ...]


def build_argv(daemon: Virtiofsd, directory: str) -> list[str]:
    """The command line that serves `directory` on descriptor 3. Pure."""
    if daemon.flavour is Flavour.C:
        source = directory.replace("\\", "\\\\").replace(",", "\\,")
        options = f"source={source},sandbox=namespace,cache=auto,timeout=0.02,xattr,announce_submounts,log_level=warn"
        return [daemon.path, f"--fd={_LISTENER}", "-f", "--rlimit-nofile=0", "-o", options]
    return [
        daemon.path,
        f"--fd={_LISTENER}",
        f"--shared-dir={directory}",
        "--sandbox=namespace",
        "--cache=never",
        "--allow-mmap",
        "--xattr",
        "--announce-submounts",
        "--inode-file-handles=never",
        "--rlimit-nofile=0",
        "--log-level=warn",
    ]


class VirtiofsdProcess:
    """A daemon that runs, and dies with the supervisor. Owns its pidfd and `connection`, which is for QEMU."""

    def __init__(self, child: Spawned, connection: socket.socket, output: int) -> None:
        self.pid = child.pid
        self.connection = connection
        self._pidfd = child.pidfd
        self._output = output

    async def wait(self) -> str:
        """Returns when the daemon has ended, with its last words. A machine that still runs then hangs on its share."""
        import asyncio

        loop, ended, pidfd = asyncio.get_running_loop(), asyncio.Event(), self._pidfd
        loop.add_reader(pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(pidfd)
        return self.tail()

    def tail(self) -> str:
        """What it said on stderr since the last call, on one line: a daemon that has trouble says why."""
        with contextlib.suppress(BlockingIOError):
            text = os.read(self._output, _TAIL).decode(errors="replace")
            return " | ".join("".join(filter(str.isprintable, line)) for line in text.splitlines())
        return ""

    def close(self) -> None:
        """Kills, reaps, closes. Idempotent."""
        if self._pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        os.close(self._pidfd)
        os.close(self._output)
        self.connection.close()
        self._pidfd = -1


def start_virtiofsd(daemon: Virtiofsd, directory: str, state_dir: str) -> VirtiofsdProcess:
    """Starts the daemon without waiting for it. Synchronous, before any thread exists. Raises HostError."""
    listener, connection = _connected_listener(state_dir)
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        child = spawn_confined(
            build_argv(daemon, directory),
            Confinement(capabilities=_CAPABILITIES, namespaces=("network", "ipc"), nofile=NOFILE),
            descriptors={_LISTENER: listener.fileno()},
            stderr=write,
        )
    except BaseException:
        connection.close()
        os.close(read)
        raise
    finally:
        listener.close()
        os.close(write)
    return VirtiofsdProcess(child, connection, read)


def _connected_listener(state_dir: str) -> tuple[socket.socket, socket.socket]:
    """A listening socket with one connection waiting, and no name left."""
    listener, connection = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    try:
        with short_name(f"{state_dir}/{_SOCKET}") as name:
            listener.bind(name)
            listener.listen(1)
            connection.connect(name)
            os.unlink(name)
    except OSError as e:
        listener.close()
        connection.close()
        raise HostError(f"can't make {state_dir}/{_SOCKET}: {os.strerror(e.errno or 0).lower()}") from e
    return listener, connection
