"""Which virtiofsd this host has. Runs in the CLI; nothing is printed here."""

import os
import resource

from katapy.errors import HostError
from katapy.linux.program import first_executable, version_number, version_text
from katapy.storage.virtiofsd import NOFILE, Flavour, Virtiofsd

CANDIDATES = (
    "/usr/libexec/virtiofsd",
    "/usr/lib/qemu/virtiofsd",
    "/usr/lib/virtiofsd",
    "/usr/local/libexec/katapy/virtiofsd",
    "virtiofsd",
)
"""Where distributions put it; the last is looked up in PATH."""

_LEAST_RUST = (1, 10)
_FEW_DESCRIPTORS = 100_000
_CAP_SYS_RESOURCE = 1 << 24


def find_virtiofsd(configured: str) -> Virtiofsd | None:
    """The daemon of katapy.yaml (share.virtiofsd: a path, a name, or auto); None if `auto` finds none.

    Raises HostError if one was named that is absent or too old.
    """
    path = first_executable(CANDIDATES if configured == "auto" else [configured])
    if path is None:
        if configured == "auto":
            return None
        raise HostError(f"can't find {configured}: install virtiofsd, or set share.virtiofsd")
    daemon = identify(path, version_text(path))
    if daemon.flavour is Flavour.RUST and daemon.version < _LEAST_RUST:
        raise HostError(f"{path} has version {'.'.join(map(str, daemon.version))}: virtiofsd 1.10 or newer is needed")
    return daemon


def identify(path: str, text: str) -> Virtiofsd:
    """Pure: from what it prints for --version. The C daemon of QEMU names its authors there. Raises HostError."""
    version = version_number(text)
    if not version or "virtiofsd" not in text.lower():
        raise HostError(f"{os.path.basename(path)} at {path} does not tell its version: is it virtiofsd?")
    return Virtiofsd(path, Flavour.C if "QEMU" in text else Flavour.RUST, version)


def descriptor_warning() -> str:
    """A sentence if virtiofsd would have too few descriptors here, else empty: it needs one for a file."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard >= _FEW_DESCRIPTORS or _may_raise_limits():
        return ""
    return f"a guest can know {hard} files at once, others fail: raise the hard limit of open files to {NOFILE}"


def _may_raise_limits() -> bool:
    with open("/proc/self/status", encoding="utf-8") as f:
        effective = next(line.split()[1] for line in f if line.startswith("CapEff:"))
    return bool(int(effective, 16) & _CAP_SYS_RESOURCE)
