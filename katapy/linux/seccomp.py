"""Takes system calls away from the calling process and all that it forks, for good. Runs in the supervisor.

What parses a guest's words must not be a way to run programs: once its machine has been started, a supervisor executes
nothing, traces nobody and loads nothing into the kernel. The filter makes the kernel say EPERM.
"""

import ctypes
import errno
import os
import struct

from katapy.linux import capabilities

_NUMBERS: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            "execve": 59, "execveat": 322, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311,
            "init_module": 175, "finit_module": 313, "delete_module": 176, "kexec_load": 246, "kexec_file_load": 320,
            "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "add_key": 248, "request_key": 249, "keyctl": 250,
            "reboot": 169, "swapon": 167, "mknod": 133, "mknodat": 259, "chroot": 161, "pivot_root": 155,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "execve": 221, "execveat": 281, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271,
            "init_module": 105, "finit_module": 273, "delete_module": 106, "kexec_load": 104, "kexec_file_load": 294,
            "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "add_key": 217, "request_key": 218, "keyctl": 219,
            "reboot": 142, "swapon": 224, "mknodat": 33, "chroot": 51, "pivot_root": 41,
        },
    ),
}  # fmt: skip
"""Architecture -> its number for seccomp (AUDIT_ARCH), and the calls that are refused."""

_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_MODE_FILTER = 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH = 0, 4
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_X32 = 0x40000000
"""Calls of x32 have this bit: the same calls by another number."""


def program(arch: str) -> list[tuple[int, int, int, int]]:
    """The filter as instructions of classic BPF: code, jump if true, jump if false, operand. Pure. KeyError: arch."""
    audit, calls = _NUMBERS[arch]
    numbers = sorted(calls.values())
    # The last instruction refuses; a jump's length is counted from the instruction behind it.
    tests = [(_EQUAL, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    return [
        (_LOAD, 0, 0, _OFFSET_ARCH),
        (_EQUAL, 0, len(numbers) + 3, audit),
        (_LOAD, 0, 0, _OFFSET_NUMBER),
        (_AT_LEAST, len(numbers) + 1, 0, _X32),
        *tests,
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
    ]


def forbid_programs() -> None:
    """Applies the filter. Does nothing on other architectures than those in the table. Raises OSError."""
    arch = os.uname().machine
    if arch not in _NUMBERS:
        return
    instructions = program(arch)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *i) for i in instructions))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(instructions), ctypes.addressof(code)))
    capabilities.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    capabilities.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(header))
