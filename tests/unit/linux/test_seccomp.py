"""The supervisor's filter, on real children of this test: no root needed."""

import ctypes
import os
from collections.abc import Callable

import pytest

from katapy.linux import seccomp


def in_child(work: Callable[[], int]) -> int:
    """Exit status of a fork that applies the filter and does `work`."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            seccomp.forbid_programs()
            status = work()
        except OSError as e:
            status = e.errno or 98
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def execute() -> int:
    os.execv("/bin/true", ["true"])


def execute_by_descriptor() -> int:
    os.execve(os.open("/bin/true", os.O_RDONLY), ["true"], {})


def trace() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return 0 if libc.ptrace(0, 0, 0, 0) == 0 else ctypes.get_errno()


def execute_in_a_fork() -> int:
    return os.waitstatus_to_exitcode(os.spawnv(os.P_WAIT, "/bin/true", ["true"]) << 8)


def open_and_fork() -> int:
    os.close(os.open("/dev/null", os.O_RDWR))
    os.kill(os.getpid(), 0)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("work", [execute, execute_by_descriptor, trace])
def test_what_is_refused(work: Callable[[], int]) -> None:
    assert in_child(work) == 1  # EPERM


def test_it_holds_in_children() -> None:
    assert in_child(execute_in_a_fork) == 127


def test_what_a_supervisor_does_is_allowed() -> None:
    assert in_child(open_and_fork) == 0


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_jumps_lead_to_the_verdicts(arch: str) -> None:
    """Runs the filter on every call number, and on those of another architecture and of x32."""
    audit, calls = seccomp._NUMBERS[arch]
    for number in (*range(500), 0x40000000 + 59, 0xFFFFFFFF):
        refused = number in calls.values() or number >= 0x40000000
        assert (run(seccomp.program(arch), audit, number) == 0x7FFF0000) != refused
    assert run(seccomp.program(arch), 0x40000003, 1) == 0x00050001


def run(program: list[tuple[int, int, int, int]], arch: int, number: int) -> int:
    """As the kernel does."""
    at, value = 0, 0
    while True:
        code, yes, no, operand = program[at]
        at += 1
        if code == 0x20:
            value = arch if operand == 4 else number
        elif code == 0x06:
            return operand
        else:
            at += yes if (value == operand if code == 0x15 else value >= operand) else no
