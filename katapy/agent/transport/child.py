"""The relay process: forked from PID 1 before grpc is imported, so it is small and shares no lock with it. Guest only.

It starts to move bytes when PID 1 says that the server listens; until then the host's bytes wait in the kernel.
"""

import os
import signal
import socket
from collections.abc import Callable

from katapy.agent.transport import serial, vsock
from katapy.protocol import names


def dial() -> socket.socket:
    """A new connection to the server."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.connect(names.GUEST_AGENT_SOCKET)
    return server


def relay_serial(port: int) -> None:
    serial.SerialRelay(port, dial).run()


def relay_vsock(listener: socket.socket) -> None:
    vsock.serve(listener, dial)


class RelayProcess:
    """Owns the pipe that `go` writes to. The child is PID 1's to reap."""

    def __init__(self, work: Callable[[], None]) -> None:
        wait, self._go = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._go)
            _child(wait, work)
        os.close(wait)

    def go(self) -> None:
        """The server listens."""
        os.write(self._go, b"g")
        os.close(self._go)


def _child(wait: int, work: Callable[[], None]) -> None:
    """Never returns."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if os.read(wait, 1):
            work()
    except BaseException as error:
        # The only way to be heard from here: the machine's console.
        os.write(2, f"katapy relay: {error!r}\n".encode())
    finally:
        os._exit(1)
