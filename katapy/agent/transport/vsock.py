"""An AF_VSOCK listener relayed to the server's unix socket. Runs in the agent's relay process.

Only the host's root (CID 2, a port that takes a capability to bind) is listened to: any user of the host could connect
and occupy a place, and so could a container of this machine. One thread per connection, few at a time.
"""

import fcntl
import os
import socket
import struct
import threading
import time

from katapy.agent.transport.relay import Dial, relay
from katapy.errors import Timeout
from katapy.protocol import names

HOST_CID = 2
CONNECTIONS = 8
DEVICE = "/dev/vsock"
_LOOK_AGAIN_S = 0.001


def listen(port: int) -> socket.socket:
    """A listening socket on every CID of this machine. Raises OSError without a vsock device."""
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    listener.bind((socket.VMADDR_CID_ANY, port))
    listener.listen(CONNECTIONS)
    return listener


def local_cid(device: str = DEVICE) -> int:
    """This machine's own context id; 0 without a vsock device."""
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        answer = fcntl.ioctl(fd, socket.IOCTL_VM_SOCKETS_GET_LOCAL_CID, bytes(4))
    finally:
        os.close(fd)
    return int(struct.unpack("=I", answer)[0])


def await_clone(template_cid: int, deadline_s: float) -> None:
    """In a clone: returns when the kernel has noticed that it is one. Raises Timeout.

    QEMU tells it by an event after the load, at which the driver takes on the new context id and at once resets every
    connection there is (VIRTIO_VSOCK_EVENT_TRANSPORT_RESET): one that the host had made before would be cut. Nobody is
    told of the event, so the id is looked at until it is another. Ids are drawn from 2**31, so that it is.
    """
    end = time.monotonic() + deadline_s
    while local_cid() == template_cid:
        if time.monotonic() > end:
            raise Timeout("the vsock device's word that this is a clone", deadline_s)
        time.sleep(_LOOK_AGAIN_S)


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
