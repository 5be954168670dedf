"""Saving a machine and loading it: everything but its memory, which is a file of its own (x-ignore-shared). Runs in the
CLI (templates) and in the supervisor, before asyncio is imported.

The state goes through a socket: QEMU opens no file, and the folder of templates stays root's.
"""

import contextlib
import socket
from collections.abc import Iterator

from katapy.errors import HypervisorError, Timeout, errno_text
from katapy.hypervisor.qemu.monitor import Monitor

_NAME = "state"
_URI = f"fd:{_NAME}"
_MAX_STATE = 64 * 1024 * 1024
_READ = 1024 * 1024


def save(monitor: Monitor) -> bytes:
    """Stops the machine and returns its state. Raises HypervisorError, Timeout."""
    monitor.execute("stop")
    with _stream(monitor) as stream:
        monitor.execute("migrate", {"uri": _URI})
        state = bytearray()
        try:
            stream.settimeout(monitor.remaining())
            while data := stream.recv(_READ):
                state += data
                if len(state) > _MAX_STATE:
                    raise HypervisorError("qemu's state has no end")
        except TimeoutError as e:
            raise Timeout("qemu does not hand its state over") from e
        except OSError as e:
            raise HypervisorError(f"qemu's state can't be read: {errno_text(e)}") from e
        monitor.wait_migrated()
    return bytes(state)


def load(monitor: Monitor, state: bytes) -> None:
    """Puts a machine that waits (-incoming defer) into `state`; it stands still. Raises HypervisorError, Timeout."""
    with _stream(monitor) as stream:
        monitor.execute("migrate-incoming", {"uri": _URI})
        try:
            stream.settimeout(monitor.remaining())
            stream.sendall(state)
            stream.shutdown(socket.SHUT_WR)
        except TimeoutError as e:
            raise Timeout("qemu does not take its state") from e
        except (BrokenPipeError, ConnectionResetError):
            pass  # it says itself why it stopped reading
        monitor.wait_migrated()


@contextlib.contextmanager
def _stream(monitor: Monitor) -> Iterator[socket.socket]:
    """Our end of a socket whose other end QEMU saves to, or loads from."""
    wanted = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
    monitor.execute("migrate-set-capabilities", {"capabilities": wanted})
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            monitor.give(_NAME, theirs.fileno())
        yield ours
