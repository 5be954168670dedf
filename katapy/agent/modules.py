"""Drivers of the guest's kernel: no udev is there to load them when a device is plugged in. Runs in the agent."""

from katapy.agent.crun import spawn
from katapy.agent.reaper import Reaper
from katapy.errors import HostError

_MODPROBE = "/usr/sbin/modprobe"


def loaded() -> frozenset[str]:
    """Names of the modules that are loaded, with underscores."""
    with open("/proc/modules", encoding="ascii") as file:
        return frozenset(line.split()[0] for line in file)


async def load(reaper: Reaper, *names: str) -> None:
    """Loads them with what they need; what is there already is no error. Raises HostError, OSError."""
    status = await reaper.watch(spawn([_MODPROBE, "-a", *names]))
    if status != 0:
        raise HostError(f"modprobe {' '.join(names)} failed in the guest with status {status}")
