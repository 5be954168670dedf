"""The agent once everything is imported: event loop, machine, server, and an eye on the relay. Runs in the agent.

In a template the server listens, with its gate closed, before the machine is saved: the clones find it listening.
"""

import asyncio
import gc
import os

from katapy.agent import identity
from katapy.agent.boot import BootMessage, BootPort, TemplateMessage
from katapy.agent.machine import Machine
from katapy.agent.reaper import Reaper
from katapy.agent.service.gate import Gate
from katapy.agent.service.server import make_gate, make_server
from katapy.agent.transport import vsock
from katapy.agent.transport.child import RelayProcess
from katapy.errors import AgentError
from katapy.protocol import names

_CLONE_S = 60.0
"""From a clone's first instruction to its vsock driver's knowing what it is: milliseconds, unless emulated twice."""


def run(port: BootPort, message: BootMessage | TemplateMessage, relay: RelayProcess) -> None:
    """Serves until something fails for good. Raises what it was."""
    asyncio.run(_serve(port, message, relay))


async def _serve(port: BootPort, message: BootMessage | TemplateMessage, relay: RelayProcess) -> None:
    machine = Machine(port)
    machine.install(asyncio.get_running_loop())
    relay_ended = machine.reaper.watch(relay.pid)
    gate = make_gate(machine)
    server = make_server(machine, gate, names.GUEST_AGENT_SOCKET)
    await server.start()
    os.chmod(names.GUEST_AGENT_SOCKET, 0o600)
    if isinstance(message, TemplateMessage):
        message = await _become_template(port, gate, machine.reaper)
    identity.adopt(message)
    if message.rehearse:
        from katapy.agent.rehearsal import make_a_container

        await make_a_container(gate)
    gate.open(message.secret)
    relay.go()
    port.phase(names.SERVING_PHASE)
    gc.enable()
    gc.freeze()
    status = await relay_ended
    # A new relay would help little: the host has lost its calls, and would not even hear of it.
    raise AgentError(f"the relay process ended with status {status}")


async def _become_template(port: BootPort, gate: Gate, reaper: Reaper) -> BootMessage:
    """Returns in each clone, with that clone's message. The machine is saved while it waits for it."""
    from katapy.agent.rehearsal import rehearse

    await rehearse(gate, reaper)
    gc.collect()
    cid = vsock.local_cid()
    port.phase(names.TEMPLATE_PHASE)
    message = port.read_message()  # nothing else has to go on meanwhile
    if isinstance(message, TemplateMessage):
        raise ValueError("boot message: a template can't become a template again")
    if message.transport == "vsock":
        vsock.await_clone(cid, _CLONE_S)
    port.phase("awake")
    return message
