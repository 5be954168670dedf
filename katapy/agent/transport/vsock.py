"""An AF_VSOCK listener relayed to the server's unix socket. Runs in the agent's relay process.

Only the host (CID 2) is listened to; a container of this machine could connect as well. One thread per connection, few
at a time.
"""

import socket
import threading

from katapy.agent.transport.relay import Dial, relay

HOST_CID = 2
CONNECTIONS = 8


def listen(port: int) -> socket.socket:
    """A listening socket on every CID of this machine. Raises OSError without a vsock device."""
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    listener.bind((socket.VMADDR_CID_ANY, port))
    listener.listen(CONNECTIONS)
    return listener


def serve(listener: socket.socket, dial: Dial) -> None:
    """Accepts and relays for ever. Raises OSError if the listener fails, which stays the caller's."""
    places = threading.BoundedSemaphore(CONNECTIONS)
    while True:
        connection, address = listener.accept()
        if address[0] != HOST_CID or not places.acquire(blocking=False):
            connection.close()
            continue
        threading.Thread(target=_relay, args=(connection, dial, places), daemon=True).start()


def _relay(connection: socket.socket, dial: Dial, places: threading.BoundedSemaphore) -> None:
    try:
        with connection, dial() as server:
            relay(connection, server)
    finally:
        places.release()
