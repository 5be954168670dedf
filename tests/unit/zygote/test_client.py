"""`create` and a zygote that is not as it should be: refused, within three seconds, and nobody has the listener."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from framework.besieged import make_plan

from katapy.config import Config, Factory
from katapy.factory.maker import Obtained
from katapy.supervisor.launch import Task
from katapy.zygote import client, wire

Answer = Callable[[socket.socket], object]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.delenv("KATAPY_FACTORY", raising=False)
    return Config(factory=Factory(dir=str(tmp_path)))


@contextlib.contextmanager
def zygote(config: Config, answer: Answer) -> Iterator[None]:
    """Serves one connection."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(wire.socket_path(config))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join(10)
        listener.close()
        assert not thread.is_alive()


def launch(config: Config) -> None:
    task = Task(make_plan(), config, "/run/katapy", (), 0.0, Obtained(""))
    with open(os.devnull, "rb") as listener:
        client.launch(task, listener.fileno())


def says(text: bytes) -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(text)

    return answer


def says_nothing(connection: socket.socket) -> None:
    connection.recv(1)
    time.sleep(client.DEADLINE_S + 0.5)


def test_none_is_no_zygote(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not client.serves(config)
    assert client.status(config) is None
    Path(wire.socket_path(config)).touch()
    assert client.serves(config)
    monkeypatch.setenv("KATAPY_FACTORY", "off")
    assert not client.serves(config)


def test_a_socket_that_nobody_listens_on(config: Config) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(wire.socket_path(config))
    with pytest.raises(client.Refused, match="without taking its socket away"):
        launch(config)


def test_one_that_never_answers(config: Config) -> None:
    begun = time.monotonic()
    with zygote(config, says_nothing):
        with pytest.raises(client.Refused, match="did not answer in 3 s"):
            launch(config)
        assert time.monotonic() - begun < client.DEADLINE_S + 2


@pytest.mark.parametrize(
    "answer,reason",
    [
        (says(b""), "closed the connection"),
        (says(b'{"refused": "its net namespace is not the caller\'s"}\n'), "net namespace"),
        (says(b"{[\n"), "can't be read"),
        (says(b"[]\n"), "nonsense"),
        (says(b"{}\n"), "no pid"),
        (says(b'{"pid": 4194305}\n'), "has ended"),
    ],
)
def test_other_answers(config: Config, answer: Answer, reason: str) -> None:
    with zygote(config, answer), pytest.raises(client.Refused, match=reason):
        launch(config)
