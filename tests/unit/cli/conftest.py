"""What tests of verbs share: a state root, and a supervisor that is this very process with a real control server."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from katapy.cli.main import main
from katapy.control import endpoint
from katapy.control.messages import Fields
from katapy.control.server import ControlServer, Descriptors, Operation
from katapy.sandbox import store

Answer = Callable[[Fields], Fields]


class Result:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


Katapy = Callable[..., Result]


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "root")


@pytest.fixture
def katapy(root: str, capfd: pytest.CaptureFixture[str]) -> Katapy:
    """Runs a command line in this process: status, stdout, stderr."""

    def run(*argv: str) -> Result:
        capfd.readouterr()
        status = main(["--root", root, *argv])
        return Result(status, *capfd.readouterr())

    return run


@pytest.fixture
def make(root: str) -> Callable[..., store.State]:
    """A container whose supervisor is this process (`supervisor_pid=0`: none)."""

    def container(id: str = "c1", **changes: Any) -> store.State:
        state = store.State(
            id=id,
            sandbox=id,
            bundle="/bundle",
            rootfs="/bundle/rootfs",
            created="2026-01-02T03:04:05.000000006Z",
            status="running",
            pid=4242,
            supervisor_pid=os.getpid(),
            supervisor_start=store.start_time(os.getpid()),
        )._replace(**changes)
        store.reserve(root, id)
        store.save(root, state)
        return state

    return container


class Supervisor:
    """Answers on a container's control socket, in a thread of its own. `asked`: the requests, in order."""

    def __init__(self, path: str, answers: dict[str, Answer]) -> None:
        self.asked: list[tuple[str, Fields]] = []
        self._answers = answers
        self._listener = endpoint.listen(path)
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()

    async def _serve(self) -> None:
        table = {op: Operation(self._handler(op, answer)) for op, answer in self._answers.items()}
        server = ControlServer(self._listener.detach(), table, os.geteuid())
        server.start()
        await self._end.wait()
        await server.close(0.1)

    def _handler(self, op: str, answer: Answer) -> Callable[[Fields, Descriptors], Any]:
        async def handler(fields: Fields, _: Descriptors) -> Fields:
            self.asked.append((op, fields))
            return answer(fields)

        async def events(fields: Fields, _: Descriptors) -> Any:
            self.asked.append((op, fields))
            for event in answer(fields)["events"]:  # type: ignore[attr-defined]
                yield event

        return events if op == "events" else handler

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def supervise(root: str) -> Iterator[Callable[..., Supervisor]]:
    """Starts a supervisor for container c1: supervise(kill=lambda fields: {})."""
    running: list[Supervisor] = []

    def start(**answers: Answer) -> Supervisor:
        running.append(Supervisor(store.control_path(root, "c1"), answers))
        return running[-1]

    yield start
    for supervisor in running:
        supervisor.close()
