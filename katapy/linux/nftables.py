"""nf_tables over netlink, as little as it takes to redirect connections. Supervisor only.

Layout: linux/netfilter/nf_tables.h; numbers of nf_tables are in network order. Kernel 5.12 or newer (tables that belong
to a socket).
"""

import socket
import struct

from katapy.linux.netlink import (
    NETFILTER,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    Netlink,
    attribute,
    message,
    nested,
    text,
)

_SUBSYSTEM = 10
_NEWTABLE, _NEWCHAIN, _NEWRULE = (_SUBSYSTEM << 8 | number for number in (0, 3, 6))
_BATCH_BEGIN, _BATCH_END = 16, 17
_INET = 1
_TABLE_NAME, _TABLE_FLAGS, _OWNED = 1, 2, 2
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_TYPE = 1, 3, 4, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_LOCAL_OUT, _DESTINATION_NAT = 3, -100
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_ELEMENT, _EXPRESSION_NAME, _EXPRESSION_DATA = 1, 1, 2
_META_REGISTER, _META_KEY, _META_OUT_TYPE, _META_PROTOCOL = 1, 2, 9, 16
_COMPARE_REGISTER, _COMPARE_HOW, _COMPARE_DATA, _EQUAL = 1, 2, 3, 0
_IMMEDIATE_REGISTER, _IMMEDIATE_DATA, _REDIRECT_PORT = 1, 2, 1
_VALUE = 1
_REGISTER = 1
_ARPHRD_LOOPBACK = 772


class RedirectTable:
    """A table of the network namespace that the caller is in. It lives as long as this object's socket, so it goes with
    a process that is killed."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._netlink = Netlink(NETFILTER)

    def redirect_local_tcp(self, name: str, port: int) -> None:
        """Connections from the namespace to itself, on whatever address and port, arrive at `port` of loopback.

        Raises OSError.
        """
        chain = "output"
        hook = nested(_CHAIN_HOOK, _be32(_HOOK_NUMBER, _LOCAL_OUT), _be32(_HOOK_PRIORITY, _DESTINATION_NAT))
        rule = nested(
            _RULE_EXPRESSIONS,
            *_is(_META_OUT_TYPE, struct.pack("=H", _ARPHRD_LOOPBACK)),
            *_is(_META_PROTOCOL, bytes([socket.IPPROTO_TCP])),
            _expression("immediate", _be32(_IMMEDIATE_REGISTER, _REGISTER), _data(_IMMEDIATE_DATA, _port(port))),
            _expression("redir", _be32(_REDIRECT_PORT, _REGISTER)),
        )
        self._netlink.batch(
            [
                (_NEWTABLE, NLM_F_CREATE, _head() + text(_TABLE_NAME, name) + _be32(_TABLE_FLAGS, _OWNED)),
                (
                    _NEWCHAIN,
                    NLM_F_CREATE,
                    _head() + text(_CHAIN_TABLE, name) + text(_CHAIN_NAME, chain) + hook + text(_CHAIN_TYPE, "nat"),
                ),
                (
                    _NEWRULE,
                    NLM_F_CREATE | NLM_F_APPEND,
                    _head() + text(_RULE_TABLE, name) + text(_RULE_CHAIN, chain) + rule,
                ),
            ],
            message(_BATCH_BEGIN, NLM_F_REQUEST, 0, struct.pack("!BBH", 0, 0, _SUBSYSTEM)),
            message(_BATCH_END, NLM_F_REQUEST, 0, struct.pack("!BBH", 0, 0, _SUBSYSTEM)),
        )

    def close(self) -> None:
        """The table goes. Idempotent."""
        self._netlink.close()


def _is(key: int, value: bytes) -> tuple[bytes, bytes]:
    """Goes on with the rule if that property of the packet has the value."""
    return (
        _expression("meta", _be32(_META_KEY, key), _be32(_META_REGISTER, _REGISTER)),
        _expression(
            "cmp", _be32(_COMPARE_REGISTER, _REGISTER), _be32(_COMPARE_HOW, _EQUAL), _data(_COMPARE_DATA, value)
        ),
    )


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(_ELEMENT, text(_EXPRESSION_NAME, name), nested(_EXPRESSION_DATA, *attributes))


def _data(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(_VALUE, value))


def _be32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!i", value))


def _port(port: int) -> bytes:
    return struct.pack("!H", port)


def _head() -> bytes:
    return struct.pack("!BBH", _INET, 0, 0)
