"""The control channel to QEMU: commands, and the few events that matter. Runs in the supervisor, in its asyncio loop.

Imports qemu.qmp (74 ms), so it is itself imported only after QEMU was spawned.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple, TypeVar

from qemu.qmp import ExecuteError, QMPClient, QMPError, Runstate
from qemu.qmp.message import Message

from katapy.errors import HypervisorError, Timeout

_UNPLUG_S = 10.0
"""For a guest to let a device go."""
_NO_SUCH_DEVICE = "DeviceNotFound"

# Its warnings concern its own internals; what matters is raised.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


T = TypeVar("T")


async def uncut(work: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[None]] | None = None) -> T:
    """`work` to its end, even if the caller is cancelled meanwhile; then what it has made is undone, if it can be.

    A command that QEMU has been sent is carried out, whoever waits for the answer: nobody would know what there is.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        made = not task.cancelled() and task.exception() is None
        if made and undo is not None:
            with contextlib.suppress(HypervisorError, Timeout):
                await undo(task.result())
        raise


class Added(NamedTuple):
    """A descriptor's number in QEMU, and that of the set that it is in."""

    fdset: int
    fd: int


class QmpChannel:
    """One connection for the machine's life. `shutdown_reason` is QEMU's word for why the guest ended, or empty."""

    def __init__(self, agent_port: str) -> None:
        self.shutdown_reason = ""
        self.panicked = False
        self.agent_open = asyncio.Event()
        self._agent_port = agent_port
        self._removals: dict[str, asyncio.Event] = {}
        self._client = QMPClient("katapy")
        # A filter that keeps nothing: the client's queue and history of events would grow with the guest's activity.
        self._client.events.event_filter = self._on_event

    async def connect(self, connection: socket.socket) -> None:
        """Greeting and negotiation. Takes the socket over. Raises HypervisorError."""
        try:
            await self._client.connect(connection)
        except (QMPError, OSError) as e:
            raise HypervisorError(f"qemu does not speak on its control channel: {e}") from e

    async def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> object:
        """The answer to a command. Raises HypervisorError."""
        try:
            return await self._client.execute(command, dict(arguments or {}))
        except (QMPError, OSError) as e:
            raise HypervisorError(f"qemu refused {command}: {e}") from e

    async def send_descriptor(self, name: str, fd: int) -> None:
        """QEMU has a copy of `fd` then, under that name. Raises HypervisorError."""
        self._send(fd)
        await self.execute("getfd", {"fdname": name})

    async def add_descriptor(self, fd: int) -> Added:
        """QEMU has a copy of `fd` then. Raises HypervisorError."""
        self._send(fd)
        answer = await self.execute("add-fd")
        fdset, number = (answer.get("fdset-id"), answer.get("fd")) if isinstance(answer, dict) else (None, None)
        if not isinstance(fdset, int) or not isinstance(number, int):
            raise HypervisorError("qemu did not say where it put a descriptor")
        return Added(fdset, number)

    def _send(self, fd: int) -> None:
        """Beside the command that is executed next. Raises HypervisorError."""
        try:
            self._client.send_fd_scm(fd)
        except (QMPError, OSError) as e:
            raise HypervisorError(f"can't send a descriptor to qemu: {e}") from e

    async def remove_device(self, device: str) -> None:
        """Returns when the guest has let it go, at once if it did so by itself: it can switch slots off.

        Raises Timeout if it does not, HypervisorError.
        """
        gone = self._removals.setdefault(device, asyncio.Event())
        try:
            if not await self._ask_back(device):
                return
            async with asyncio.timeout(_UNPLUG_S):
                await gone.wait()
        except TimeoutError as e:
            raise Timeout(f"the guest does not let go of {device}", _UNPLUG_S) from e
        finally:
            del self._removals[device]

    async def _ask_back(self, device: str) -> bool:
        """Whether it is there. Raises HypervisorError."""
        try:
            await self.execute("device_del", {"id": device})
        except HypervisorError as e:
            if isinstance(e.__cause__, ExecuteError) and e.__cause__.error_class == _NO_SUCH_DEVICE:
                return False
            raise
        return True

    async def watch_agent_port(self, chardev: str) -> None:
        """Sets `agent_open` also when the guest opened the port before anybody listened."""
        answer = await self.execute("query-chardev")
        chardevs = answer if isinstance(answer, list) else []
        if any(c.get("label") == chardev and c.get("frontend-open") for c in chardevs):
            self.agent_open.set()

    async def close(self, limit_s: float) -> None:
        """After QEMU's end: reads what it said last, then closes. Never raises."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._end_of_file(), limit_s)
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._client.disconnect()

    async def _end_of_file(self) -> None:
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()

    def _on_event(self, event: Message) -> bool:
        data = event.get("data")
        details = data if isinstance(data, dict) else {}
        match event.get("event"):
            case "SHUTDOWN":
                self.shutdown_reason = str(details.get("reason", "unknown"))[:100]
            case "GUEST_PANICKED":
                self.panicked = True
            case "DEVICE_DELETED" if (removal := self._removals.get(str(details.get("device")))) is not None:
                removal.set()
            case "VSERPORT_CHANGE" if details.get("id") == self._agent_port:
                if details.get("open"):
                    self.agent_open.set()
                else:
                    self.agent_open.clear()
        return False
