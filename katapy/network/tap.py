"""A tap device in the pod's namespace: QEMU gets the descriptor, the device lives as long as anybody holds it.

Supervisor only. Layout: linux/if_tun.h.
"""

import fcntl
import os
import struct

from katapy.errors import HostError, errno_text

_TUN = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


def open_tap(name: str) -> int:
    """Makes the tap `name` in the namespace the caller is in. The descriptor is the caller's. Raises HostError."""
    try:
        fd = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as e:
        raise HostError(f"can't open {_TUN}: {errno_text(e)}; load the module tun") from e
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError as e:
        os.close(fd)
        raise HostError(f"can't make the tap {name}: {errno_text(e)}") from e
    return fd
