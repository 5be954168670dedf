"""TCP connections that end by a reset. Supervisor and guest."""

import socket
import struct

_AT_ONCE = struct.pack("ii", 1, 0)


def reset_on_close(connection: socket.socket) -> None:
    """Its close is a reset to the other end, not an end of file that looks like all of the data. Raises OSError."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
