"""A pod's network namespace in the supervisor's hands: looked at, watched, its interfaces joined to taps.

Supervisor only. All sockets are made inside of the namespace once; the supervisor itself stays in its own.
"""

import os
from collections.abc import Callable

from katapy.errors import HostError, errno_text
from katapy.linux import namespaces, rtnetlink
from katapy.linux.netlink import Netlink
from katapy.linux.rtnetlink import Link
from katapy.network import leftovers, loopback, netns, redirect, scan, tap

_MAX_TAP_MTU = 65521
_LOOPBACK_INDEX = 1


class PodNamespace:
    """Owns its sockets. `record`: the file in which `delete` finds what a killed supervisor left."""

    def __init__(self, path: str, record: str) -> None:
        """Raises HostError, Unsupported."""
        self._path = path
        self._record = record
        self._joined: dict[int, int] = {}
        self._fd = netns.open_namespace(path)
        try:
            with namespaces.entered("network", self._fd):
                self._netlink = Netlink()
                self._changes = Netlink(groups=rtnetlink.GROUPS)
        except OSError as e:
            os.close(self._fd)
            raise HostError(f"network namespace {path}: {errno_text(e)}") from e

    def scan(self) -> scan.Found:
        """Raises HostError."""
        try:
            return scan.scan(self._netlink)
        except OSError as e:
            raise HostError(f"look into the network namespace {self._path}: {errno_text(e)}") from e

    def changes_fd(self) -> int:
        """Readable when something has changed since `forget_changes`."""
        return self._changes.fileno()

    def forget_changes(self) -> None:
        self._changes.drain()

    def open_loopback(self) -> loopback.Loopback:
        """Raises HostError."""
        with namespaces.entered("network", self._fd):
            return loopback.open_loopback()

    def raise_loopback(self) -> None:
        """As runc does in a namespace that it makes. Raises HostError."""
        try:
            rtnetlink.set_link(self._netlink, _LOOPBACK_INDEX, up=True)
        except OSError as e:
            raise HostError(f"set the loopback of the network namespace {self._path} up: {errno_text(e)}") from e

    def join(self, link: Link) -> int:
        """A tap that receives what the interface receives, and the other way round. The descriptor is the caller's: the
        tap lives as long as it, or a copy of it. Raises HostError, and nothing is left then."""
        name = f"{scan.TAP_PREFIX}{link.ifindex}"
        try:
            self._note({*self._joined, link.ifindex})
            with namespaces.entered("network", self._fd):
                fd = tap.open_tap(name)
        except OSError as e:
            raise HostError(f"join the network interface {link.name} to the guest: {errno_text(e)}") from e
        try:
            index = next(found.ifindex for found in rtnetlink.links(self._netlink) if found.name == name)
            rtnetlink.forbid_own_addresses(self._netlink, index)
            rtnetlink.set_link(self._netlink, index, up=True, mtu=min(link.mtu, _MAX_TAP_MTU))
            redirect.redirect(self._netlink, link.ifindex, index)
            redirect.redirect(self._netlink, index, link.ifindex)
        except OSError as e:
            os.close(fd)
            self._undo(link.ifindex, lambda _: None)
            raise HostError(f"join the network interface {link.name} to the guest: {e.strerror}") from e
        self._joined[link.ifindex] = index
        return fd

    def follow_mtu(self, link: Link) -> None:
        """The tap of an interface whose MTU has changed gets it too. Raises HostError."""
        try:
            rtnetlink.set_link(self._netlink, self._joined[link.ifindex], mtu=min(link.mtu, _MAX_TAP_MTU))
        except OSError as e:
            raise HostError(f"set the MTU of the tap of {link.name}: {e.strerror}") from e

    def part(self, index: int, warn: Callable[[str], None]) -> None:
        """Undoes `join`, but for the tap itself. Interface and namespace may be gone."""
        self._joined.pop(index, None)
        self._undo(index, warn)

    def close(self, warn: Callable[[str], None]) -> None:
        """Parts everything and closes. Idempotent; what goes wrong is a warning."""
        if self._fd < 0:
            return
        for index in list(self._joined):
            self.part(index, warn)
        leftovers.forget(self._record)
        self._netlink.close()
        self._changes.close()
        os.close(self._fd)
        self._fd = -1

    def _undo(self, index: int, warn: Callable[[str], None]) -> None:
        try:
            redirect.undo(self._netlink, index)
        except OSError as e:
            warn(f"the redirection of interface {index} in the network namespace {self._path} stays: {e.strerror}")
        try:
            self._note(set(self._joined))
        except OSError as e:
            warn(f"write {self._record}: {errno_text(e)}")

    def _note(self, indexes: set[int]) -> None:
        leftovers.note(self._record, self._path, os.fstat(self._fd), indexes)
