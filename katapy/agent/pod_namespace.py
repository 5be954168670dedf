"""The pod's network namespace in the guest: made at boot, entered for the making of sockets. Runs in the agent."""

import contextlib
import os
from collections.abc import Iterator

from katapy.agent.init import raise_loopback
from katapy.linux import namespaces
from katapy.linux.mount import MS_BIND, mount
from katapy.protocol import names

OWN = "/proc/self/ns/net"


def make(path: str = names.GUEST_NETNS) -> None:
    """The pod's network namespace, with its loopback up, kept by `path`, and its sysfs. Raises OSError."""
    own = os.open(OWN, os.O_RDONLY)
    namespaces.unshare(["network"])
    try:
        raise_loopback()
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        mount(OWN, path, "", MS_BIND)
        os.mkdir(names.GUEST_SYSFS)
        mount("sysfs", names.GUEST_SYSFS, "sysfs")
    finally:
        namespaces.enter("network", own)
        os.close(own)


@contextlib.contextmanager
def in_pod(path: str = names.GUEST_NETNS) -> Iterator[int]:
    """The pod's namespace for the block, in which nothing may be awaited; a descriptor of it. Raises OSError."""
    pod = os.open(path, os.O_RDONLY)
    try:
        with namespaces.entered("network", pod):
            yield pod
    finally:
        os.close(pod)
