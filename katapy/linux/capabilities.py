"""Capabilities of the calling thread: bounding set, permitted and ambient sets. Any process of host or guest.

Dropping is one-way. Every failure is an OSError that names the call.
"""

import ctypes
import errno
import os
import signal
from collections.abc import Iterable

from katapy.oci.capabilities import CAPABILITIES

_NUMBERS = {name: number for number, name in enumerate(CAPABILITIES)}

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int,) + (ctypes.c_ulong,) * 4


def prctl(option: int, *arguments: int) -> int:
    """prctl(2) with up to four numbers. Raises OSError."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    result = int(_libc.prctl(option, *padded))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option} {padded[0]}: {os.strerror(number)}")
    return result


def die_with_parent() -> None:
    """SIGKILL for the caller when the thread that forked it ends. A change of credentials clears it. Raises OSError."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def mask(names: Iterable[str]) -> int:
    """The bits of these names. Raises KeyError for an unknown one."""
    bits = 0
    for name in names:
        bits |= 1 << _NUMBERS[name]
    return bits


def limit_bounding_set(keep: int) -> None:
    """Drops every capability but those of the mask `keep` from the bounding set. Needs CAP_SETPCAP. Raises OSError."""
    for number in range(64):
        try:
            held = prctl(_PR_CAPBSET_READ, number)
        except OSError as e:
            if e.errno == errno.EINVAL:
                return  # the kernel knows no more
            raise
        if held and not keep >> number & 1:
            prctl(_PR_CAPBSET_DROP, number)


def set_capabilities(keep: int) -> None:
    """Makes permitted, effective and inheritable exactly `keep`. Raises OSError (EPERM: not a subset)."""
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    low, high = keep & 0xFFFFFFFF, keep >> 32
    data = (ctypes.c_uint32 * 6)(low, low, low, high, high, high)
    if _libc.capset(header, data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset {keep:#x}: {os.strerror(number)}")


def set_ambient(keep: int) -> None:
    """Makes the ambient set exactly `keep`, so that it survives exec without root. Raises OSError."""
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(64):
        if keep >> number & 1:
            prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)
