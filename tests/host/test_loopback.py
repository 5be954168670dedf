"""Connections of a network namespace to itself are redirected by the kernel, as long as somebody holds the table."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from framework.leaks import Scope
from framework.network import Namespace, add_addresses
from framework.wait import wait_for

from katapy.errors import HostError
from katapy.linux import namespaces
from katapy.network import netns
from katapy.network.loopback import Loopback, open_loopback, original_destination


@pytest.fixture
def namespace(scope: Scope, no_leaks: None) -> Iterator[Namespace]:
    made = Namespace(f"{scope.token}-lo")
    made.ip("link", "add", "br7", "type", "bridge")
    made.ip("link", "set", "br7", "up")
    add_addresses(made, "br7", ["10.77.0.2/24", "fd77::2/64"])
    # A worker of the kernel's puts it to use, even without duplicate detection.
    wait_for("the IPv6 address is in use", lambda: "local fd77::2 " in made.ip("-6", "route", "show", "table", "local"))
    yield made
    made.close()


@pytest.fixture
def loopback(namespace: Namespace) -> Iterator[Loopback]:
    fd = netns.open_namespace(str(namespace.path))
    with namespaces.entered("network", fd):
        opened = open_loopback()
    os.close(fd)
    yield opened
    opened.close()


def connect(namespace: Namespace, address: str, port: int) -> socket.socket:
    client = namespace.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        client.connect((address, port))
    except OSError:
        client.close()
        raise
    return client


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.4.5", "10.77.0.2", "::1", "fd77::2"])
def test_whatever_address_and_port_is_meant_is_known(namespace: Namespace, loopback: Loopback, address: str) -> None:
    with connect(namespace, address, 8080) as client:
        (listener,) = (each for each in loopback.listeners if each.family == client.family)
        listener.settimeout(60)
        accepted, _ = listener.accept()
        with accepted:
            packed, port = original_destination(accepted)
            assert (str(ipaddress.ip_address(packed)), port) == (address, 8080)
            client.sendall(b"hello")
            assert accepted.recv(10) == b"hello"


def test_once_it_is_closed_nothing_is_redirected(namespace: Namespace, loopback: Loopback) -> None:
    loopback.close()
    with pytest.raises(ConnectionRefusedError):
        connect(namespace, "127.0.0.1", 8080)


def test_two_can_not_have_it(namespace: Namespace, loopback: Loopback) -> None:
    fd = netns.open_namespace(str(namespace.path))
    with namespaces.entered("network", fd), pytest.raises(HostError, match="redirect connections"):
        open_loopback()
    os.close(fd)


_HOLDER = """
import sys, time
from katapy.errors import HostError
from katapy.linux import namespaces
from katapy.network import netns
from katapy.network.loopback import open_loopback
with namespaces.entered("network", netns.open_namespace(sys.argv[1])):
    held = open_loopback()
print("ready", flush=True)
sys.stdin.read()
"""


def test_it_goes_with_a_process_that_is_killed(namespace: Namespace) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(namespace.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": "."},
    )
    with holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"ready\n"
        connect(namespace, "127.0.0.1", 8080).close()
        holder.send_signal(signal.SIGKILL)
    with pytest.raises(ConnectionRefusedError):
        connect(namespace, "127.0.0.1", 8080)
