"""The one object behind all calls: what this machine holds. Runs in the agent."""

import asyncio

from katapy.agent.boot import BootPort
from katapy.agent.containers import Containers
from katapy.agent.events import Events
from katapy.agent.growth import Growth
from katapy.agent.network import Network
from katapy.agent.oom import OomWatch
from katapy.agent.reaper import Reaper


class Machine:
    def __init__(self, boot: BootPort) -> None:
        self.boot = boot
        self.events = Events()
        self.reaper = Reaper()
        self.network = Network(self.reaper)
        self.growth = Growth(self.reaper)
        self.oom = OomWatch(self.events.oom)
        self.containers = Containers(self.reaper, self.oom, self.events.exited)
        self.sandbox_id: str | None = None
        self.shares: list[str] = []
        """Mount points of the shares, in the order they were mounted."""

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on children are reaped and OOM kills noticed."""
        self.reaper.install(loop)
        self.oom.install(loop)
