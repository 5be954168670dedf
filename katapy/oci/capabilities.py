"""Names of Linux capabilities, in the kernel's order (number = position). Pure."""

TYPE_CHECKING = False  # typing's own constant costs typing
if TYPE_CHECKING:
    from collections.abc import Container, Iterable

# fmt: off
_NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)
# fmt: on
CAPABILITIES = tuple(f"CAP_{name}" for name in _NAMES)


def complaint(names: "Iterable[str]") -> str:
    """runc's warning of those that are no capabilities, which a container does without; "" if all are."""
    unknown = sorted({name for name in names if name not in CAPABILITIES})
    return f"ignoring unknown or unavailable capabilities: [{' '.join(unknown)}]" if unknown else ""


def ambient_complaints(
    ambient: "Iterable[str]", inheritable: "Container[str]", permitted: "Container[str]"
) -> list[str]:
    """runc's warnings of those that the kernel does not make ambient: crun leaves them out and says nothing."""
    return [
        f"can't raise ambient capability {name}: operation not permitted"
        for name in ambient
        if name in CAPABILITIES and not (name in inheritable and name in permitted)
    ]
