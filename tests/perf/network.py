"""A pod's network, katapy beside runc: the same kind of namespaces, veth, image and programs. Used by bench.py."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from framework.bundle import make_bundle
from framework.network import Wire, in_namespace
from framework.runtime import Runtime
from framework.wait import wait_for
from perf.measure import MIB
from perf.report import Report

TCP_MIB = 64
ECHO, SINK, SOURCE = 8080, 8081, 8082
ROUND_TRIPS = 50
POD, WORLD = "10.77.0.2", "10.77.0.1"
_DEADLINE_S = 120.0


def measure_network(report: Report, runtime: Runtime, who: str, folder: Path, runs: int) -> None:
    """Round trips of one byte over TCP, and bulk transfer both ways, between the pod and the other end of its veth."""
    with _pod(runtime, folder) as wire:
        for _ in range(runs):
            for milliseconds in _round_trips(wire):
                report.series(who, "network: TCP round trip", "ms").add(milliseconds)
            report.series(who, "network: TCP into the pod", "MB/s").add(_into(wire))
            report.series(who, "network: TCP out of the pod", "MB/s").add(_out_of(wire))


@contextmanager
def _pod(runtime: Runtime, folder: Path) -> Iterator[Wire]:
    programs = {
        ECHO: "exec cat",
        SINK: "cat >/dev/null; echo done",
        SOURCE: f"exec dd if=/dev/zero bs=65536 count={TCP_MIB * 16} 2>/dev/null",
    }
    servers = " ".join(f"nc -ll -p {port} -e /bin/server{port} &" for port in programs)
    bundle = make_bundle(folder, ["sh", "-c", f"{servers} wait"])
    for port, script in programs.items():
        program = bundle.rootfs / f"bin/server{port}"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    wire = Wire(f"bench{os.getpid()}")
    try:
        wire.cable("eth0", [f"{POD}/24"], [f"{WORLD}/24"])
        in_namespace(wire.pod.path)(bundle.spec)
        container = runtime.start(bundle.save())
        for port in programs:
            wait_for(f"port {port} listens", lambda port=port: _listens(wire, port), _DEADLINE_S)  # type: ignore[misc]
        yield wire
        container.delete("--force")
    finally:
        wire.close()


def _listens(wire: Wire, port: int) -> bool:
    try:
        _connect(wire, port).close()
    except ConnectionError:
        return False
    return True


def _connect(wire: Wire, port: int) -> socket.socket:
    client = wire.world.socket()
    try:
        client.settimeout(_DEADLINE_S)
        client.connect((POD, port))
    except OSError:
        client.close()
        raise
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def _round_trips(wire: Wire) -> list[float]:
    """Milliseconds. The first one is not counted: the server's process has to start."""
    found = []
    with _connect(wire, ECHO) as client:
        for _ in range(ROUND_TRIPS + 1):
            begun = time.monotonic()
            client.sendall(b"x")
            client.recv(1)
            found.append((time.monotonic() - begun) * 1000)
    return found[1:]


def _into(wire: Wire) -> float:
    """MB/s until the server has read all."""
    with _connect(wire, SINK) as client:
        begun = time.monotonic()
        for _ in range(TCP_MIB):
            client.sendall(bytes(MIB))
        client.shutdown(socket.SHUT_WR)
        assert client.recv(10) == b"done\n"
        return TCP_MIB * MIB / (time.monotonic() - begun) / 1_000_000


def _out_of(wire: Wire) -> float:
    """MB/s from the first byte on."""
    with _connect(wire, SOURCE) as client:
        received = len(client.recv(1))
        begun = time.monotonic()
        while data := client.recv(MIB):
            received += len(data)
        seconds = time.monotonic() - begun
    assert received == TCP_MIB * MIB, received
    return received / seconds / 1_000_000
