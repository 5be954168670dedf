"""What must not end the machine, and what must: each test has a machine of its own, or takes the risk on purpose."""

from pathlib import Path

import grpc
import pytest
from contract.agent.guest import BOOT_DEADLINE_S, Guest, spec

from katapy.protocol import agent_pb2 as pb

pytestmark = pytest.mark.vm


def test_the_end_of_the_relay_ends_the_machine(tmp_path: Path) -> None:
    """Killed by a container that shares the guest's pid namespace. PID 1 itself can't be killed from there."""
    machine = Guest(tmp_path)
    try:
        machine.create_sandbox()
        script = (
            "kill -KILL 1; kill -TERM 1; kill -INT 1; sleep 1; read p rest < /proc/1/task/1/children; kill -KILL $p"
        )
        namespaces = {"namespaces": [{"type": kind} for kind in ("ipc", "uts", "mount")]}
        document = spec("c", "sh", "-c", script, linux_changes=namespaces)
        machine.stub.CreateContainer(pb.CreateContainerRequest(container_id="c", spec_json=document))
        machine.stub.StartContainer(pb.ContainerRequest(container_id="c"))
        expect_end(machine, "relay process ended")
    finally:
        machine.close()


def expect_end(machine: Guest, reason: str) -> None:
    """The machine switches itself off, and says why on the boot port and on the console."""
    assert machine.qemu.wait(BOOT_DEADLINE_S) == 0
    machine.listener.join(5)
    assert reason in machine.log[-1]
    assert reason in machine.console()


def test_destroyed_sandbox(tmp_path: Path) -> None:
    machine = Guest(tmp_path)
    try:
        machine.create_sandbox()
        machine.stub.CreateContainer(pb.CreateContainerRequest(container_id="c", spec_json=spec("c", "sleep", "1000")))
        machine.stub.StartContainer(pb.ContainerRequest(container_id="c"))
        with pytest.raises(grpc.RpcError) as raised:
            machine.create_sandbox()
        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        machine.stub.DestroySandbox(pb.Empty())
        with pytest.raises(grpc.RpcError) as raised:
            machine.stub.Wait(pb.ProcessRequest(container_id="c"))
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        machine.create_sandbox()
    finally:
        machine.close()


def test_a_malformed_boot_message_ends_the_machine_with_a_reason(tmp_path: Path) -> None:
    machine = Guest(tmp_path, boot_message={"version": 99})
    try:
        expect_end(machine, "boot message")
    finally:
        machine.close()
