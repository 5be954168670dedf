"""Control messages -> Sandbox, one function per message.

Supervisor only; the table of messages is in docs/design.md.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from katapy.agent_client.stdio import Descriptors as Stdio
from katapy.control.messages import Fields
from katapy.control.server import Descriptors, Operation
from katapy.errors import UsageError, WrongStatus
from katapy.protocol import agent_pb2 as pb
from katapy.sandbox.container import Attachment
from katapy.sandbox.plan import ContainerPlan
from katapy.sandbox.sandbox import Sandbox
from katapy.supervisor import stats

MAX_SIGNAL = 64
_END_S = 5.0
"""For the end of a container whose process has ended, if the guest does not lie."""
_TREES = 4
"""Of the descriptors of `create`: from here on root file system and binds, for a supervisor that was there before."""


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise UsageError(f"the request has no {name}")
    return value


def _number(fields: Mapping[str, Any], name: str, least: int, greatest: int) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= greatest:
        raise UsageError(f"{name} {value!r} is not a number from {least} to {greatest}")
    return value


def _attachment(fields: Mapping[str, Any], descriptors: Descriptors) -> Attachment:
    pid = _number(fields, "pid", 1, 2**31)
    stdin, stdout, stderr, standin = (descriptors.take(n) for n in range(4))
    return Attachment(Stdio(stdin, stdout, stderr, bool(fields.get("terminal"))), standin, pid)


class Handlers:
    """The operations on one sandbox; `create` has a plan that the loop puts in."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def operations(self) -> dict[str, Operation]:
        plain = (
            self.start,
            self.exec,
            self.kill,
            self.pause,
            self.resume,
            self.update,
            self.ps,
            self.stats,
            self.delete,
        )
        table = {handler.__name__: Operation(handler) for handler in plain}
        waiting = Operation(self.resumed, cancel_on_disconnect=True)
        return {**table, "events": Operation(self.events), "resumed": waiting}

    async def create(self, plan: ContainerPlan, fields: Fields, descriptors: Descriptors) -> Fields:
        container = await self._sandbox.create(plan, _attachment(fields, descriptors), descriptors.rest(_TREES))
        timings, guest = dict(self._sandbox.timings.marks), self._sandbox.guest_phases()
        return {"pid": container.pid, "timings": timings, "guest": guest}

    async def start(self, fields: Fields, _: Descriptors) -> Fields:
        container = self._sandbox.container(_text(fields, "id"))
        await self._sandbox.call(self._sandbox.network.update())  # engines may have added interfaces since `create`
        await self._sandbox.call(container.start())
        return {}

    async def exec(self, fields: Fields, descriptors: Descriptors) -> Fields:
        timings = {"one unary call": await self._sandbox.round_trip_s()} if fields.get("timings") else {}
        started = await self._sandbox.exec(_text(fields, "id"), fields, _attachment(fields, descriptors))
        return {"exec_id": started.exec_id, "timings": {**timings, "crun exec": started.crun_seconds}}

    async def kill(self, fields: Fields, _: Descriptors) -> Fields:
        container = self._sandbox.container(_text(fields, "id"))
        await container.check_alive()
        try:
            await self._sandbox.call(container.kill(_number(fields, "signal", 0, MAX_SIGNAL), bool(fields.get("all"))))
        except WrongStatus:  # the guest knows of the end before we do
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(container.over.wait(), _END_S)
            await container.check_alive()
            raise
        return {}

    async def pause(self, fields: Fields, _: Descriptors) -> Fields:
        await self._sandbox.call(self._sandbox.container(_text(fields, "id")).pause())
        return {}

    async def resume(self, fields: Fields, _: Descriptors) -> Fields:
        await self._sandbox.call(self._sandbox.container(_text(fields, "id")).resume())
        return {}

    async def resumed(self, fields: Fields, _: Descriptors) -> Fields:
        """Answers when the container is not paused."""
        await self._sandbox.call(self._sandbox.container(_text(fields, "id")).resumed())
        return {}

    async def update(self, fields: Fields, _: Descriptors) -> Fields:
        resources = fields.get("resources")
        if not isinstance(resources, dict):
            raise UsageError("the request has no resources")
        await self._sandbox.update(_text(fields, "id"), resources)
        return {}

    async def ps(self, fields: Fields, _: Descriptors) -> Fields:
        container = self._sandbox.container(_text(fields, "id"))
        processes = await self._sandbox.call(container.processes())
        return {"processes": [stats.process(p) for p in processes], "pids": container.host_pids()}

    async def stats(self, fields: Fields, _: Descriptors) -> Fields:
        container = self._sandbox.container(_text(fields, "id"))
        reply = await self._sandbox.call(container.stats())
        return {"stats": self._statistics(reply)}

    def _statistics(self, reply: pb.StatsReply) -> Fields:
        return stats.runc_stats(reply, self._sandbox.network.counters())

    async def events(self, fields: Fields, _: Descriptors) -> AsyncGenerator[Fields, None]:
        """Statistics every `interval_s` seconds and OOM kills as they happen, until the container ends."""
        container = self._sandbox.container(_text(fields, "id"))
        interval = _number(fields, "interval_s", 1, 86400)
        async for kind, data in self._sandbox.events.follow(container, interval):
            yield {"type": kind, "id": container.id, **({} if data is None else {"data": self._statistics(data)})}

    async def delete(self, fields: Fields, _: Descriptors) -> Fields:
        await self._sandbox.delete(_text(fields, "id"), bool(fields.get("force")))
        return {}
