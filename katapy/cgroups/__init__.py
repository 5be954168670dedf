"""Host cgroups of containers: where stand-ins and supervisor are accounted, and what engines look for. CLI, supervisor.

Limits are set in the guest, not here. Standard library only, and little of it: `delete` imports this.
"""

from katapy.cgroups.host import Cgroup, join, open_cgroup

__all__ = ["Cgroup", "join", "open_cgroup"]
