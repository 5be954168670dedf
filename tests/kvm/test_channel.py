"""The agent's channel over vsock: who can connect to it, and what that is good for."""

import asyncio
import errno
import fcntl
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from framework.fixtures import BundleMaker, runtime_below
from framework.leaks import Scope
from framework.runtime import Container, Runtime, owner_of

from katapy.agent_client.channel import open_channel
from katapy.agent_client.client import AgentClient
from katapy.agent_client.relay import Relay, vsock_dial
from katapy.errors import HostError, KatapyError
from katapy.hypervisor.qemu.descriptors import _open_vsock
from katapy.protocol import names

SET_GUEST_CID = 0x4008AF60
SOMEBODY = 65534
CONNECT = """
import socket, sys
port, times = int(sys.argv[1]), int(sys.argv[2])
for target in sys.argv[3:]:
    cid, mine = (int(a) for a in target.split(":"))
    held = []
    for _ in range(times):
        s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        s.settimeout(120)
        held.append(s)
        try:
            if mine:
                s.bind((socket.VMADDR_CID_ANY, mine))
            s.connect((cid, port))
            said = s.recv(1).decode("latin-1") or "closed"
        except OSError as e:
            said = type(e).__name__
        print(target, repr(said), flush=True)
"""
"""Connects to targets, `CID:source port` (0: any), and says what each is answered with; connections are kept."""

REFUSED = {"closed", "ConnectionResetError", "ConnectionRefusedError"}
"""What a peer sees that the agent does not listen to: no byte of gRPC, which speaks first."""


def argv_of(container: Container) -> list[str]:
    """QEMU's command line."""
    return Path(f"/proc/{owner_of(container, 'qemu')}/cmdline").read_text().split("\0")


def cid_of(container: Container) -> int:
    found = re.search(r"guest-cid=(\d+)", " ".join(argv_of(container)))
    assert found
    return int(found[1])


def answers(output: str) -> set[str]:
    """What CONNECT's targets were answered with."""
    return {line.split(" ", 1)[1].strip("'") for line in output.splitlines()}


def connect(cid: int, port: int = 0, times: int = 1, user: int = 0) -> set[str]:
    """What connections to the agent's port are answered with; from `port` if one is given."""
    argv = ["setpriv", f"--reuid={user}", "--clear-groups", sys.executable, "-IS", "-c", CONNECT]
    argv += [str(names.AGENT_VSOCK_PORT), str(times), f"{cid}:{port}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return answers(done.stdout)


def test_the_machine_runs_under_kvm_over_vsock(running: Container) -> None:
    argv = argv_of(running)
    assert argv[argv.index("-accel") + 1] == "kvm"
    assert any(a.startswith("vhost-vsock-pci,") for a in argv)
    assert not any(names.AGENT_PORT in a for a in argv)


def test_output_input_and_status(running: Container) -> None:
    done = running.exec("sh", "-c", "wc -c; echo err >&2; exit 7", input=b"x" * 300_000)
    assert (done.out.strip(), done.err, done.status) == ("300000", "err\n", 7)


def test_another_user_of_the_host_gets_no_byte_and_no_place(running: Container) -> None:
    """Many more connections than the agent has places, and then it still answers."""
    cid = cid_of(running)
    assert connect(cid, user=SOMEBODY, times=30) <= REFUSED
    assert connect(cid, port=900, user=SOMEBODY) == {"PermissionError"}
    assert running.sh("echo well") == "well"


def test_root_of_the_host_reaches_the_gate_from_a_privileged_port_alone(running: Container) -> None:
    cid = cid_of(running)
    assert connect(cid) <= REFUSED
    (said,) = connect(cid, port=900)
    assert said not in REFUSED, "gRPC greets whoever is let in: else this would prove nothing"


def test_who_is_let_in_still_needs_the_secret(running: Container, scratch: Path) -> None:
    async def call() -> None:
        relay = Relay(f"{scratch}/s", vsock_dial(cid_of(running), names.AGENT_VSOCK_PORT, 60))
        async with open_channel(f"{scratch}/s") as channel:
            await AgentClient(channel, "0" * 64, 300).hello(300)
        await relay.close()

    with pytest.raises(KatapyError, match="secret"):
        asyncio.run(call())
    assert running.sh("echo well") == "well"


def test_a_cid_in_use_is_not_taken(running: Container) -> None:
    cid = cid_of(running)
    taken = pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE))
    with open("/dev/vhost-vsock", "rb+", buffering=0) as device, taken:
        fcntl.ioctl(device, SET_GUEST_CID, struct.pack("=Q", cid))
    with pytest.raises(HostError, match=f"{cid} is taken"):
        _open_vsock(cid)


@pytest.mark.long
def test_a_container_of_the_guest_is_not_listened_to(runtime: Runtime, bundle: BundleMaker) -> None:
    """The host's Python is brought in for it: as root, from any port, to every address that might be the agent's."""
    usr = {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]}
    made = bundle(mounts=[usr])
    (made.rootfs / "usr").mkdir(exist_ok=True)
    for name in ("lib", "lib64"):
        (made.rootfs / name).symlink_to(f"usr/{name}")
    container = runtime.start(made)
    addresses = (cid_of(container), 1, 2, socket.VMADDR_CID_ANY)
    targets = [f"{address}:{port}" for address in addresses for port in (0, 900)]
    command = ["/usr/bin/python3", "-IS", "-c", CONNECT, str(names.AGENT_VSOCK_PORT), "1", *targets]
    out = container.exec(*command, timeout=900).ok().out
    assert len(out.splitlines()) == len(targets)
    assert answers(out) <= REFUSED | {"OSError", "PermissionError", "TimeoutError"}, out
    container.delete("--force")


@pytest.fixture(scope="module")
def module_runtime(runtime_path: Path, scope: Scope, no_leaks_of_the_module: None) -> Iterator[Runtime]:
    """Its root's path is too long for a unix socket's address: the relay's socket must do with it."""
    yield from runtime_below(runtime_path, scope, "long" * 28)
