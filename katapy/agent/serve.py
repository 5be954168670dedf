"""The agent once everything is imported: event loop, machine, server, and an eye on the relay. Runs in the agent."""

import asyncio
import gc
import os

from katapy.agent.boot import BootPort
from katapy.agent.machine import Machine
from katapy.agent.service.server import make_server
from katapy.agent.transport.child import RelayProcess
from katapy.errors import AgentError
from katapy.protocol import names


def run(port: BootPort, secret: str, relay: RelayProcess) -> None:
    """Serves until something fails for good. Raises what it was."""
    asyncio.run(_serve(port, secret, relay))


async def _serve(port: BootPort, secret: str, relay: RelayProcess) -> None:
    machine = Machine(port)
    machine.install(asyncio.get_running_loop())
    relay_ended = machine.reaper.watch(relay.pid)
    server = make_server(machine, secret, names.GUEST_AGENT_SOCKET)
    await server.start()
    os.chmod(names.GUEST_AGENT_SOCKET, 0o600)
    relay.go()
    port.phase("serving")
    gc.enable()
    gc.freeze()
    status = await relay_ended
    # A new relay would help little: the host has lost its calls, and would not even hear of it.
    raise AgentError(f"the relay process ended with status {status}")
