"""Drivers by name; only the chosen one is imported. Runs in the supervisor."""

from katapy.errors import Unsupported
from katapy.hypervisor.vm import Driver


def load_driver(name: str) -> Driver:
    """The driver that katapy.yaml names (hypervisor.driver). Raises Unsupported."""
    if name == "qemu":
        from katapy.hypervisor.qemu.driver import QemuDriver

        return QemuDriver()
    raise Unsupported(f"hypervisor {name!r} is not supported: choose qemu")
