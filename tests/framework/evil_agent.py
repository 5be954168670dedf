"""An agent that lies: a gRPC server that speaks katapy.agent.v1 and does what a guest taken over could do.

A process of its own: `evil_agent.py SOCKET ATTACK [METHOD]` prints a line once it listens. The attacks are in
evil_lies.py and its neighbours; those whose names begin with raw-, in evil_bytes.py. It uses the generated messages and
nothing else of katapy.
"""

import asyncio
import sys
from typing import Any

import grpc
import grpc.aio

from framework.evil_bytes import serve_raw
from framework.evil_dials import DialsHonestly
from framework.evil_floods import FloodsStdout
from framework.evil_lies import MIB, Answer, HonestAgent, OneMethod
from framework.evil_names import NamesThings, RefusesWithNames

SERVICE = "katapy.agent.v1.Agent"
STREAMS = {"Events": "unary_stream", "Stdio": "stream_stream"}
EMPTY_METHODS = (
    "CreateSandbox", "DestroySandbox", "StartContainer", "PauseContainer", "ResumeContainer", "UpdateContainer",
    "RemoveContainer", "UpdateNetwork", "Resize",
)  # fmt: skip
ANSWERS = ("Hello", "CreateContainer", "Stats", "ListProcesses", "Exec", "Signal", "Wait", "FindDisk")
DIAL = {"Dial": "stream_stream"}
"""Not a step of a container's life: tests/security/test_dials.py asks for it."""
METHODS = (*EMPTY_METHODS, *ANSWERS, *STREAMS)


def attack(name: str) -> HonestAgent:
    """An agent of the class that has this name. Raises LookupError."""
    kinds: list[type[HonestAgent]] = [HonestAgent, FloodsStdout, DialsHonestly, NamesThings, RefusesWithNames]
    for kind in kinds:
        if kind.__name__ == name:
            return kind()
        kinds += kind.__subclasses__()
    raise LookupError(name)


def _bytes(answer: Answer) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def _handler(agent: HonestAgent, method: str) -> Any:
    if kind := {**STREAMS, **DIAL}.get(method):
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(getattr(agent, method), None, _bytes)

    async def call(request: bytes, context: Any) -> Answer:
        return await agent.answer(method, request, context)

    return grpc.unary_unary_rpc_method_handler(call, None, _bytes)


async def serve(path: str, agent: HonestAgent) -> None:
    options = (
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_metadata_size", 64 * MIB),
    )
    agent.server = grpc.aio.server(options=options, compression=agent.compression)
    handlers = {method: _handler(agent, method) for method in (*METHODS, *DIAL)}
    agent.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    agent.server.add_insecure_port(f"unix:{path}")
    await agent.server.start()
    _announce()
    await asyncio.Event().wait()


def _announce() -> None:
    print("ready", flush=True)


async def main(path: str, name: str, method: str = "") -> None:
    if name.startswith("raw-"):
        await serve_raw(path, name, _announce)
        return
    agent = attack(name)
    if isinstance(agent, OneMethod):
        agent.method = method
    await serve(path, agent)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
