"""Client and server over a real socket: the client as the CLI uses it, in a thread, the server in the test's loop."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from katapy.control import endpoint
from katapy.control.client import Call, SupervisorGone, call, stream
from katapy.control.messages import Fields
from katapy.control.server import ControlServer, Descriptors, Operation
from katapy.errors import HostError, KatapyError, Timeout, Unsupported, WrongStatus


class Handlers:
    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.closed: list[str] = []

    async def echo(self, fields: Fields, _: Descriptors) -> Fields:
        return fields

    async def refuse(self, _: Fields, __: Descriptors) -> Fields:
        raise WrongStatus("container not running")

    async def crash(self, _: Fields, __: Descriptors) -> Fields:
        return {"x": 1 // 0}

    async def write(self, fields: Fields, fds: Descriptors) -> Fields:
        with os.fdopen(fds.take(0), "wb") as pipe:
            pipe.write(str(fields["text"]).encode())
        return {"fds": len(fds)}

    async def hang(self, _: Fields, __: Descriptors) -> Fields:
        self.entered.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return {}

    async def count(self, fields: Fields, _: Descriptors) -> AsyncGenerator[Fields, None]:
        try:
            for n in range(int(str(fields["to"]))):
                yield {"n": n}
            if "then_wait" in fields:
                self.entered.set()
                await self.release.wait()
            if "then_fail" in fields:
                raise WrongStatus("container not running")
        finally:
            self.closed.append("count")
            self.cancelled.set()

    def table(self) -> dict[str, Operation]:
        return {
            "echo": Operation(self.echo),
            "refuse": Operation(self.refuse),
            "crash": Operation(self.crash),
            "write": Operation(self.write),
            "hang": Operation(self.hang, cancel_on_disconnect=True),
            "stay": Operation(self.hang),
            "count": Operation(self.count),
        }


@asynccontextmanager
async def served(path: str, owner_uid: int | None = None) -> AsyncGenerator[Handlers, None]:
    handlers = Handlers()
    listener = endpoint.listen(path)
    server = ControlServer(listener.detach(), handlers.table(), os.geteuid() if owner_uid is None else owner_uid)
    server.start()
    try:
        yield handlers
    finally:
        await server.close(grace_s=0.2)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "control.sock")


def run(path: str, scenario: Callable[[Handlers], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(10), served(path) as handlers:
            await scenario(handlers)

    asyncio.run(main())


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_answers_and_errors(path: str) -> None:
    async def scenario(_: Handlers) -> None:
        assert await asyncio.to_thread(call, path, "echo", {"a": "ü\n", "big": "x" * 3_000_000}) == {
            "a": "ü\n",
            "big": "x" * 3_000_000,
        }
        with pytest.raises(WrongStatus, match="container not running"):
            await asyncio.to_thread(call, path, "refuse")
        with pytest.raises(KatapyError, match="internal error of the supervisor: ZeroDivisionError"):
            await asyncio.to_thread(call, path, "crash")
        with pytest.raises(Unsupported, match="'nosuch'"):
            await asyncio.to_thread(call, path, "nosuch")

    run(path, scenario)


def test_a_path_longer_than_an_address(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120) / ("e" * 120)
    folder.mkdir(parents=True)

    async def scenario(_: Handlers) -> None:
        assert await asyncio.to_thread(call, str(folder / "control.sock"), "echo", {"a": 1}) == {"a": 1}

    run(str(folder / "control.sock"), scenario)
    assert os.stat(folder / "control.sock").st_mode & 0o777 == 0o600


def test_descriptors_cross_and_unclaimed_ones_are_closed(path: str) -> None:
    async def scenario(_: Handlers) -> None:
        read, write = os.pipe()
        extra, other = os.pipe()
        before = open_descriptors()
        await asyncio.to_thread(call, path, "write", {"text": "hello"}, fds=(write, extra, other))
        with pytest.raises(KatapyError, match="without its descriptor 0"):
            await asyncio.to_thread(call, path, "write", {"text": "hello"})
        os.close(write)
        assert os.read(read, 100) == b"hello"
        assert os.read(read, 100) == b""
        for fd in (read, extra, other):
            os.close(fd)
        assert open_descriptors() <= before - 4

    run(path, scenario)


def test_streams(path: str) -> None:
    async def scenario(handlers: Handlers) -> None:
        received = await asyncio.to_thread(lambda: list(stream(path, "count", {"to": 3})))
        assert received == [{"n": 0}, {"n": 1}, {"n": 2}]
        with pytest.raises(WrongStatus):
            await asyncio.to_thread(lambda: list(stream(path, "count", {"to": 3, "then_fail": True})))
        assert handlers.closed == ["count", "count"]

    run(path, scenario)


def test_a_client_that_goes_away_cancels_what_asked_for_it(path: str) -> None:
    async def scenario(handlers: Handlers) -> None:
        requests: list[tuple[str, Fields]] = [("hang", {}), ("count", {"to": 1, "then_wait": True})]
        for op, fields in requests:
            handlers.entered.clear()
            handlers.cancelled.clear()
            pending = await asyncio.to_thread(Call, path, op, fields, 5.0)
            await handlers.entered.wait()
            pending.close()
            await handlers.cancelled.wait()

    run(path, scenario)


def test_a_client_that_goes_away_leaves_the_others_running(path: str) -> None:
    async def scenario(handlers: Handlers) -> None:
        (await asyncio.to_thread(Call, path, "stay", {}, 5.0)).close()
        await handlers.entered.wait()
        assert await asyncio.to_thread(call, path, "echo") == {}
        assert not handlers.cancelled.is_set()

    run(path, scenario)


def test_close_lets_requests_finish_and_cancels_late_ones(path: str) -> None:
    async def scenario(handlers: Handlers) -> None:
        asyncio.get_running_loop().call_soon(handlers.release.set)
        assert await asyncio.to_thread(call, path, "stay") == {}
        handlers.release.clear()
        handlers.entered.clear()
        waiting = asyncio.ensure_future(asyncio.to_thread(call, path, "stay"))
        waiting.add_done_callback(lambda done: done.exception())
        await handlers.entered.wait()

    run(path, scenario)


def test_nobody_listens(path: str) -> None:
    with pytest.raises(SupervisorGone):
        call(path, "echo")
    endpoint.listen(path).close()
    with pytest.raises(SupervisorGone):
        call(path, "echo")
    with pytest.raises(HostError):
        endpoint.listen(path)


def test_a_supervisor_that_dies_before_it_answers(path: str) -> None:
    listener = socket.socket(fileno=endpoint.listen(path).detach())
    with listener:

        def die() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=die)
        thread.start()
        with pytest.raises(SupervisorGone, match="ended before"):
            call(path, "echo", {"big": "x" * 1_000_000})
        thread.join()


def test_a_frozen_supervisor_is_a_timeout_never_a_hang(path: str) -> None:
    frozen = endpoint.listen(path)
    started = time.monotonic()
    with pytest.raises(Timeout, match="did not answer"):
        call(path, "echo", deadline_s=0.1)
    kept: list[Call] = []
    with pytest.raises(Timeout, match="frozen"):
        kept.extend(Call(path, "echo", {}, 0.1) for _ in range(200))
    assert time.monotonic() - started < 5
    for pending in kept:
        pending.close()
    frozen.close()


def test_other_users_are_refused(path: str) -> None:
    async def main() -> None:
        async with served(path, owner_uid=os.geteuid() + 1):
            with pytest.raises(KatapyError, match="serves user"):
                await asyncio.to_thread(call, path, "echo")

    asyncio.run(main())


@pytest.mark.parametrize("garbage", [b"\n", b"{}\n", b'{"v":1,"op":"echo"}\nmore', b"\xff\n", b'{"v":1,"op":"ec'])
def test_garbage_is_answered_and_survived(path: str, garbage: bytes) -> None:
    def send() -> bytes:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            sock.sendall(garbage)
            sock.shutdown(socket.SHUT_WR)
            return sock.recv(1000)

    async def scenario(_: Handlers) -> None:
        assert b'"kind":"MessageError"' in await asyncio.to_thread(send)
        assert await asyncio.to_thread(call, path, "echo") == {}

    run(path, scenario)
