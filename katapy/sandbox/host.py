"""What a sandbox needs done on the host's side of its machine. Supervisor only; supervisor/loop has the real one."""

from collections.abc import Sequence
from typing import Protocol

from katapy.sandbox.container import Container
from katapy.sandbox.plan import ContainerPlan


class Host(Protocol):
    """One machine's."""

    def save(self, container: Container) -> None:
        """Writes the container's state down."""

    def share(self, plan: ContainerPlan, trees: Sequence[int]) -> dict[int, str]:
        """Shows the guest a container's root file system and binds: index -> guest path. HostError, Unsupported."""

    def unshare(self, container_id: str) -> None:
        """Takes them away. Idempotent. Raises HostError."""

    def short_of_memory(self, plan: ContainerPlan) -> None:
        """The guest's kernel has killed processes of the container for memory. Idempotent."""

    def note_kill(self, container_id: str) -> None:
        """Such a container has ended, its stand-in has not. Blocks for a moment. Raises KatapyError."""

    def release(self) -> None:
        """Gives back shares and helpers: the machine is gone."""
