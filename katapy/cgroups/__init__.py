"""Host cgroups of containers: where stand-ins and supervisor are accounted, and what engines look for. CLI, supervisor.

Made by katapy itself, or by systemd as a scope. Standard library only, and little of it: `delete` imports this.
"""

import os

from katapy.cgroups.hierarchies import mounted, relative_path
from katapy.cgroups.host import Cgroup, join

__all__ = ["Cgroup", "join", "open_cgroup", "reopen"]


def open_cgroup(cgroups_path: str, directory: str, systemd: bool = False) -> Cgroup:
    """The cgroup that linux.cgroupsPath names, in every hierarchy the host has, for the container whose state is in
    `directory`: its id is the last part of that, and no other container has the same. Raises SpecError."""
    owner = os.path.abspath(directory)
    container_id = os.path.basename(owner)
    if systemd:
        from katapy.cgroups.scope import Scope
        from katapy.cgroups.units import parse_unit

        return Scope(mounted(), parse_unit(cgroups_path, container_id), owner)
    return Cgroup(mounted(), relative_path(cgroups_path, container_id), owner)


def reopen(name: str, directory: str) -> Cgroup:
    """The one of this name, in whatever process. Raises SpecError."""
    return open_cgroup(name, directory, systemd=":" in name and not name.startswith("/"))
