"""An agent that puts one canary into everything it says: what the host does then must not carry it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from google.protobuf.message import Message

from framework.evil_lies import Answer, HonestAgent, RefusesNastily
from katapy.protocol import agent_pb2 as pb
from katapy.protocol import names

CANARY = "/canary-4f1d9"
CANARY_NUMBER = 1_953_742_918


class RefusesWithNames(RefusesNastily):
    text = f"{CANARY} {CANARY_NUMBER}"


class NamesThings(HonestAgent):
    """Every text is a path, every number a pid."""

    replies: ClassVar[dict[str, type[Message]]] = {
        "Hello": pb.HelloReply,
        "CreateContainer": pb.CreateContainerReply,
        "Exec": pb.ExecReply,
        "Stats": pb.StatsReply,
        "ListProcesses": pb.ListProcessesReply,
    }

    async def answer(self, method: str, request: bytes, context: Any) -> Answer:
        if method not in self.replies:
            return await super().answer(method, request, context)
        reply: Any = filled(self.replies[method]())
        if method == "Hello":
            reply.protocol_version = names.PROTOCOL_VERSION
        return reply  # type: ignore[no-any-return]

    async def Events(self, request: bytes, context: Any) -> AsyncIterator[Answer]:
        for kind in (pb.ExitEvent, pb.OomEvent):
            event = filled(kind())
            yield pb.Event(exit=event) if isinstance(event, pb.ExitEvent) else pb.Event(oom=event)
        await asyncio.Event().wait()

    async def output(self, context: Any) -> AsyncIterator[Answer]:
        yield pb.StdioOutput(stdout=CANARY.encode())
        async for message in super().output(context):
            yield message


def filled(message: Any) -> Any:
    """The message, with the canary wherever there is room for it."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entry = getattr(message, field.name)
            value = entry[CANARY] if field.message_type.fields_by_name["value"].message_type else None
            entry.update({CANARY: CANARY_NUMBER}) if value is None else filled(value)
        elif field.message_type is not None:
            target = getattr(message, field.name)
            filled(target.add() if field.is_repeated else target)
        elif field.is_repeated:
            getattr(message, field.name).append(CANARY)
        else:
            text = field.cpp_type == field.CPPTYPE_STRING
            setattr(message, field.name, CANARY if text else CANARY_NUMBER)
    return message
