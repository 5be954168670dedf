"""An AF_VSOCK listener relayed to the server's unix socket. Runs in the agent's relay process.

Only the host's root (CID 2, a port that takes a capability to bind) is listened to: any user of the host could connect
and occupy a place, and so could a container of this machine. One thread per connection, few at a time.
"""

import socket
import threading

from katapy.agent.transport.relay import Dial, relay
from katapy.protocol import names

HOST_CID = 2
CONNECTIONS = 8


def listen(port: int) -> socket.socket:
    """A listening socket on every CID of this machine. Raises OSError without a vsock device."""
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    listener.bind((socket.VMADDR_CID_ANY, port))
    listener.listen(CONNECTIONS)
    return listener


def from_host_root(address: tuple[int, int]) -> bool:
    """Whether a peer's (CID, port) is the host's, and one that takes CAP_NET_BIND_SERVICE there."""
    cid, port = address
    return cid == HOST_CID and port < names.PRIVILEGED_PORTS


def serve(listener: socket.socket, dial: Dial) -> None:
    """Accepts and relays for ever. Raises OSError if the listener fails, which stays the caller's."""
    places = threading.BoundedSemaphore(CONNECTIONS)
    while True:
        connection, address = listener.accept()
        if not from_host_root(address) or not places.acquire(blocking=False):
            connection.close()
            continue
        threading.Thread(target=_relay, args=(connection, dial, places), daemon=True).start()


def _relay(connection: socket.socket, dial: Dial, places: threading.BoundedSemaphore) -> None:
    try:
        with connection, dial() as server:
            relay(connection, server)
    finally:
        places.release()
