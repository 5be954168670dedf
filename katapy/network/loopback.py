"""Listeners in the pod's namespace for connections from the namespace to itself. Supervisor only.

CRI's port-forward, probes and `nsenter` connect to 127.0.0.1:port there, where nobody listens: the servers are in the
guest. nf_tables sends such connections to these listeners instead, whatever port they were for.
"""

import contextlib
import errno
import random
import socket
import struct
from typing import NamedTuple

from katapy.errors import HostError, errno_text
from katapy.linux.nftables import RedirectTable

_TABLE = "katapy"
_BACKLOG = 64
_PORTS = (20000, 32000)
"""Below the usual ephemeral ports. Which one does not matter: connections to it are redirected, too."""
_TRIES = 100
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78
_ORIGINAL_DESTINATION = 80
"""SO_ORIGINAL_DST, and the same for IPv6 (linux/netfilter_ipv4.h, ip6_tables.h)."""


class Loopback(NamedTuple):
    """The listeners (non-blocking), and what sends connections to them. Whoever has it closes it."""

    listeners: tuple[socket.socket, ...]
    table: RedirectTable

    def close(self) -> None:
        """Idempotent."""
        for listener in self.listeners:
            listener.close()
        self.table.close()


def open_loopback() -> Loopback:
    """In the network namespace that the caller is in. Raises HostError if this kernel can't do it."""
    with contextlib.ExitStack() as stack:
        try:
            port, listeners = _listen(stack)
            table = RedirectTable()
            stack.callback(table.close)
            table.redirect_local_tcp(_TABLE, port)
        except OSError as e:
            raise HostError(f"redirect connections by nf_tables: {errno_text(e)}") from e
        stack.pop_all()
        return Loopback(listeners, table)


def original_destination(connection: socket.socket) -> tuple[bytes, int]:
    """Packed address and port that whoever connected meant. Raises OSError."""
    if connection.family == socket.AF_INET:
        raw = connection.getsockopt(socket.SOL_IP, _ORIGINAL_DESTINATION, 16)
        port, address = struct.unpack_from("!2xH4s", raw)
    else:
        raw = connection.getsockopt(socket.IPPROTO_IPV6, _ORIGINAL_DESTINATION, 28)
        port, address = struct.unpack_from("!2xH4x16s", raw)
    return address, port


def _listen(stack: contextlib.ExitStack) -> tuple[int, tuple[socket.socket, ...]]:
    """One port for both families. Raises OSError."""
    for _ in range(_TRIES):
        port = random.randrange(*_PORTS)
        with contextlib.ExitStack() as tried:
            try:
                listeners = [
                    tried.enter_context(_listener(family, port)) for family in (socket.AF_INET, socket.AF_INET6)
                ]
            except OSError as e:
                if e.errno != errno.EADDRINUSE:
                    raise
                continue
            stack.push(tried.pop_all())
            return port, tuple(listeners)
    raise OSError(errno.EADDRINUSE, "no free port")


def _listener(family: socket.AddressFamily, port: int) -> socket.socket:
    """On the loopback address, which need not be up yet."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            listener.bind(("::1", port))
        else:
            listener.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
            listener.bind(("127.0.0.1", port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
