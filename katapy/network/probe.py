"""Whether this host can join interfaces and carry connections: tried in a network namespace that ends with the try.

CLI only (`katapy check`).
"""

import os

from katapy.errors import HostError, KatapyError, errno_text
from katapy.linux import namespaces, rtnetlink
from katapy.linux.netlink import Netlink
from katapy.network import loopback, redirect, tap

_MAX_WORDS = 4096


def missing() -> tuple[str, str]:
    """Why interfaces can't be joined, and why 127.0.0.1 can't be carried; empty if they can. Raises HostError."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _report(writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read(_MAX_WORDS).decode(errors="replace")
    os.waitpid(pid, 0)
    joining, separator, carrying = said.partition("\n")
    if not separator:
        raise HostError(f"no new network namespace: {said or 'the try ended without a word'}")
    return joining, carrying


def _report(writing: int) -> None:
    """In the fork. Never returns."""
    try:
        namespaces.unshare(["network"])
        os.write(writing, f"{_try_to_join()}\n{_try_to_carry()}".encode())
    except OSError as e:
        os.write(writing, errno_text(e).encode())
    finally:
        os._exit(0)


def _try_to_join() -> str:
    try:
        taps = [tap.open_tap(name) for name in ("kata-a", "kata-b")]
        with Netlink() as netlink:
            one, other = (link.ifindex for link in rtnetlink.links(netlink) if link.name.startswith("kata-"))
            redirect.redirect(netlink, one, other)
        for fd in taps:
            os.close(fd)
    except OSError as e:
        return f"tc: {errno_text(e)}; load sch_ingress, cls_u32 and act_mirred"
    except KatapyError as e:
        return str(e)
    return ""


def _try_to_carry() -> str:
    try:
        loopback.open_loopback().close()
    except KatapyError as e:
        return str(e)
    return ""
