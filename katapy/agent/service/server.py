"""The grpc server: every group of calls behind the gate, on the agent's unix socket. Runs in the agent."""

import traceback

import grpc

from katapy.agent.machine import Machine
from katapy.agent.service.container import ContainerCalls
from katapy.agent.service.devices import DeviceCalls
from katapy.agent.service.gate import Gate
from katapy.agent.service.network import NetworkCalls
from katapy.agent.service.process import ProcessCalls
from katapy.agent.service.sandbox import SandboxCalls
from katapy.agent.service.stdio import StdioCalls
from katapy.protocol import agent_pb2_grpc, names

OPTIONS = (
    ("grpc.max_receive_message_length", names.MAX_MESSAGE),
    ("grpc.max_send_message_length", names.MAX_MESSAGE),
    ("grpc.so_reuseport", 0),
    # The host's end may be gone without a word (a serial port has no connections): its pings must not be refused.
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class AgentService(  # type: ignore[misc]  # the stub wants generators where grpc.aio takes context.write as well
    SandboxCalls, NetworkCalls, DeviceCalls, ContainerCalls, ProcessCalls, StdioCalls, agent_pb2_grpc.AgentServicer
):
    def __init__(self, machine: Machine) -> None:
        self.machine = machine


def make_gate(machine: Machine) -> Gate:
    """A gate that is closed; defects that show in calls go to the host's log."""

    def unexpected(method: str, error: Exception) -> None:
        lines = traceback.format_exception(error)
        machine.boot.log(f"{method}: {' | '.join(line.strip() for line in lines)[-1500:]}")

    return Gate(unexpected)


def make_server(machine: Machine, gate: Gate, socket_path: str) -> grpc.aio.Server:
    """A server that does not serve yet. Raises RuntimeError if the socket can't be bound."""
    server = grpc.aio.server(interceptors=[gate], options=OPTIONS)
    agent_pb2_grpc.add_AgentServicer_to_server(AgentService(machine), server)
    server.add_insecure_port(f"unix:{socket_path}")
    return server
