"""`create`'s end of the zygote's socket. CLI only. Three seconds for everything: then `create` forks by itself."""

import contextlib
import json
import os
import time
from typing import Any

from katapy.config import FACTORY_ENVIRONMENT, Config
from katapy.control import endpoint
from katapy.errors import KatapyError, errno_text
from katapy.linux import proc
from katapy.sandbox.trees import MAX_BINDS
from katapy.supervisor.launch import Launched, Task
from katapy.zygote import wire
from katapy.zygote.order import Order, encode

DEADLINE_S = 3.0


class Refused(KatapyError):
    """No supervisor by the zygote, and why."""


def serves(config: Config) -> bool:
    """Whether there is one for this call, or was one that did not end well."""
    return os.environ.get(FACTORY_ENVIRONMENT) != "off" and os.path.exists(wire.socket_path(config))


def launch(task: Task, listener: int) -> Launched:
    """A supervisor with its own mount namespace, as supervisor.launch has it; `listener` stays the caller's.

    Raises Refused; nobody has the listener then.
    """
    try:
        body = encode(Order(task, tuple(os.environb.items())))
    except ValueError as e:
        raise Refused(f"the order can't be written down: {e}") from e
    template = os.path.basename(task.template.path)
    takes_warm = template and len(task.plan.container.binds) <= MAX_BINDS
    machine = wire.machine_digest(task.plan, task.config, template) if takes_warm else ""
    with _Call(task.config) as call:
        call.send(wire.header("supervise", machine=machine, body=len(body)) + body)
        answer = call.answer()
        pid = answer.get("pid")
        if not isinstance(pid, int):
            raise Refused("its answer has no pid")
        return call.hand_over(pid, answer.get("warm") is True, listener)


def status(config: Config) -> dict[str, Any] | None:
    """What it says of itself, None if there is none. Raises Refused."""
    if not serves(config):
        return None
    with _Call(config) as call:
        call.send(wire.header("status"))
        return call.answer()


class _Call:
    """One connection."""

    def __init__(self, config: Config) -> None:
        self._deadline = time.monotonic() + DEADLINE_S
        try:
            self._socket = endpoint.connect(wire.socket_path(config), self._deadline)
        except endpoint.SupervisorGone as e:
            raise Refused("it has ended without taking its socket away") from e
        except KatapyError as e:
            raise Refused(str(e)) from e
        pid, uid, _ = endpoint.peer(self._socket)
        if uid != os.geteuid() or proc.is_stopped(pid):
            self._socket.close()
            raise Refused(f"its process {pid} is {'stopped by a signal' if uid == os.geteuid() else 'not root'}")

    def __enter__(self) -> "_Call":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, request: bytes) -> None:
        with contextlib.suppress(OSError):  # it may have refused us, and says why
            endpoint.send(self._socket, request, (), self._deadline)

    def answer(self) -> dict[str, Any]:
        """Raises Refused."""
        line = b""
        try:
            while not line.endswith(b"\n") and len(line) <= wire.MAX_ANSWER:
                data = endpoint.receive(self._socket, self._deadline)
                if not data:
                    raise Refused("it closed the connection")
                line += data
            found = json.loads(line)
        except TimeoutError as e:
            raise Refused(f"it did not answer in {DEADLINE_S:g} s") from e
        except (OSError, ValueError) as e:
            raise Refused(f"its answer can't be read: {e}") from e
        if not isinstance(found, dict) or "refused" in found:
            raise Refused(str(found.get("refused") if isinstance(found, dict) else "it answers nonsense"))
        return found

    def hand_over(self, pid: int, warm: bool, listener: int) -> Launched:
        """From here on it is ours."""
        lifeline, writing = os.pipe2(os.O_CLOEXEC)
        pidfd = -1
        try:
            pidfd = os.pidfd_open(pid)
            endpoint.send(self._socket, wire.GO, (listener, lifeline), self._deadline)
        except OSError as e:
            os.close(writing)
            if pidfd >= 0:
                os.close(pidfd)
            raise Refused(f"the supervisor it forked has ended: {errno_text(e)}") from e
        finally:
            os.close(lifeline)
        return Launched(pid, pidfd, writing, warm)
