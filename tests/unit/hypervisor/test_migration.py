"""Saving and loading against a QEMU that is a thread with a script."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from katapy.errors import HypervisorError, Timeout
from katapy.hypervisor.qemu import migration
from katapy.hypervisor.qemu.monitor import Monitor

Answer = Callable[[dict[str, Any], "Qemu"], object]


class Qemu:
    """Speaks first; answers every command by `answer`; None means no answer. Keeps what it was given."""

    def __init__(self, connection: socket.socket, answer: Answer) -> None:
        self.connection = connection
        self.commands: list[str] = []
        self.given: socket.socket | None = None
        self.answer = answer

    def run(self) -> None:
        try:
            self.say({"QMP": {"version": {}}})
            while True:
                data, fds, _, _ = socket.recv_fds(self.connection, 65536, 1)
                if not data:
                    break
                if fds:
                    self.given = socket.socket(fileno=fds[0])
                request = json.loads(data)
                self.commands.append(request["execute"])
                if (answer := self.answer(request, self)) is not None:
                    self.say(answer)
        except OSError:
            pass
        finally:
            self.hang_up()

    def say(self, message: object) -> None:
        self.connection.sendall(json.dumps(message).encode() + b"\r\n")

    def status(self, status: str) -> None:
        self.say({"event": "MIGRATION", "data": {"status": status}})

    def hang_up(self) -> None:
        self.connection.close()
        if self.given is not None:
            self.given.close()


@contextmanager
def qemu(answer: Answer, seconds: float = 60) -> Iterator[tuple[Monitor, Qemu]]:
    ours, theirs = socket.socketpair()
    machine = Qemu(theirs, answer)
    thread = threading.Thread(target=machine.run, daemon=True)
    thread.start()
    with ours:
        yield Monitor(ours, seconds), machine
    thread.join(60)


def saves(request: dict[str, Any], machine: Qemu) -> object:
    if request["execute"] == "migrate":
        machine.say({"return": {}})
        machine.status("active")
        assert machine.given is not None
        machine.given.sendall(b"state" * 100_000)
        machine.given.close()
        machine.status("completed")
        return None
    machine.say({"event": "STOP"})  # events come at any time
    return {"return": {}}


def test_save() -> None:
    with qemu(saves) as (monitor, machine):
        assert migration.save(monitor) == b"state" * 100_000
    assert machine.commands == ["qmp_capabilities", "stop", "migrate-set-capabilities", "getfd", "migrate"]


def test_load() -> None:
    received = bytearray()

    def loads(request: dict[str, Any], machine: Qemu) -> object:
        machine.say({"return": {}})
        if request["execute"] == "migrate-incoming":
            assert machine.given is not None
            while data := machine.given.recv(65536):
                received.extend(data)
            machine.status("completed")
        return None

    with qemu(loads) as (monitor, _):
        migration.load(monitor, b"state" * 100_000)
    assert received == b"state" * 100_000


def test_a_machine_that_can_t_be_loaded() -> None:
    def fails(request: dict[str, Any], machine: Qemu) -> object:
        machine.say({"return": {}})
        if request["execute"] == "migrate-incoming":
            machine.status("failed")
        return None

    with qemu(fails) as (monitor, _), pytest.raises(HypervisorError, match="could not save or load"):
        migration.load(monitor, b"state")


def test_a_refusal_names_the_command() -> None:
    def refuses(request: dict[str, Any], machine: Qemu) -> object:
        return {"error": {"desc": "no room"}} if request["execute"] == "stop" else {"return": {}}

    with qemu(refuses) as (monitor, _), pytest.raises(HypervisorError, match="qemu refused stop: no room"):
        migration.save(monitor)


def test_a_qemu_that_dies() -> None:
    def dies(request: dict[str, Any], machine: Qemu) -> object:
        if request["execute"] == "migrate":
            machine.hang_up()
        return {"return": {}}

    with qemu(dies) as (monitor, _), pytest.raises(HypervisorError, match="qemu"):
        migration.save(monitor)


def test_a_qemu_that_says_nothing() -> None:
    def silent(request: dict[str, Any], machine: Qemu) -> object:
        return {"return": {}} if request["execute"] == "qmp_capabilities" else None

    with qemu(silent, seconds=0.2) as (monitor, _), pytest.raises(Timeout):
        migration.save(monitor)
