"""One machine for all tests of this folder: booting takes most of the time. Each test makes containers of its own."""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from contract.agent.guest import IMAGE, Guest, Session, spec
from framework.fixtures import unavailable

from katapy.protocol import agent_pb2 as pb


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    if not (IMAGE / "image.json").exists():
        unavailable("no guest image: make image")
    machine = Guest(tmp_path_factory.mktemp("guest"))
    try:
        machine.create_sandbox()
        yield machine
    finally:
        machine.close()
        print(machine.phases, *machine.log, machine.console(), sep="\n")


_numbers = itertools.count()


class Handle:
    """A container of the test: its id, and calls with it filled in."""

    def __init__(self, guest: Guest, container_id: str) -> None:
        self.guest = guest
        self.stub = guest.stub
        self.id = container_id
        self._ref = pb.ContainerRequest(container_id=container_id)

    def call(self, name: str, timeout: float = 60) -> Any:
        return getattr(self.stub, name)(self._ref, timeout=timeout)

    def start(self) -> None:
        self.call("StartContainer")

    def session(self, exec_id: str = "") -> Session:
        return Session(self.stub, self.id, exec_id)

    def wait(self, exec_id: str = "", timeout: float = 60) -> int:
        request = pb.ProcessRequest(container_id=self.id, exec_id=exec_id)
        return int(self.stub.Wait(request, timeout=timeout).status)

    def signal(self, number: int, exec_id: str = "", every: bool = False) -> None:
        self.stub.Signal(pb.SignalRequest(container_id=self.id, exec_id=exec_id, signal=number, all=every))

    def exec(self, exec_id: str, process: dict[str, Any], cgroup: str = "") -> None:
        request = pb.ExecRequest(
            container_id=self.id, exec_id=exec_id, process_json=json.dumps(process).encode(), cgroup=cgroup
        )
        self.stub.Exec(request)


@pytest.fixture
def create(guest: Guest) -> Iterator[Callable[..., Handle]]:
    """Creates a container; it is removed after the test."""
    made: list[Handle] = []

    def make(*args: str, **changes: Any) -> Handle:
        handle = Handle(guest, f"c{next(_numbers)}")
        request = pb.CreateContainerRequest(container_id=handle.id, spec_json=spec(handle.id, *args, **changes))
        guest.stub.CreateContainer(request)
        made.append(handle)
        return handle

    yield make
    for handle in made:
        try:
            handle.call("RemoveContainer")
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise


@pytest.fixture
def refused() -> Callable[..., Any]:
    """`with refused(code, text):` expects a status."""

    @contextmanager
    def expect(code: grpc.StatusCode, text: str = "") -> Iterator[None]:
        with pytest.raises(grpc.RpcError) as raised:
            yield
        assert (raised.value.code(), text in str(raised.value.details())) == (code, True), raised.value.details()

    return expect
