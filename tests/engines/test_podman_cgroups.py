"""Where Podman, with whatever manages this host's cgroups, has its containers' machines."""

from pathlib import Path

import pytest
from framework.podman import IMAGE, SYSTEMD, Box, Podman
from framework.processes import all_processes

pytestmark = pytest.mark.guest


def cgroups_of_qemu(box: Box) -> set[str]:
    found = [p.pid for p in all_processes().values() if p.command.startswith("/") and f"guest={box.id}" in p.command]
    assert len(found) == 1
    return {line.split(":", 2)[2] for line in Path(f"/proc/{found[0]}/cgroup").read_text().splitlines()}


def test_the_machine_is_in_the_cgroup_that_podman_shows(podman: Podman) -> None:
    box = podman.detached("--memory=64m", IMAGE, "sleep", "1000000")
    named = box.inspect("State.CgroupPath")
    assert named.endswith(f"libpod-{box.id}.scope" if SYSTEMD else f"libpod-{box.id}")
    assert podman.cgroup in named
    assert named in cgroups_of_qemu(box)
    assert box.sh("cat /sys/fs/cgroup/memory.max") == str(64 << 20)
    box("rm", "--force", "--time=0").ok()
