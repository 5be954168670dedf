"""A root file system that an attacker has prepared, or a first container has left: the host follows nothing in it."""

from pathlib import Path

import pytest
from framework.bundle import Spec
from framework.fixtures import BundleMaker
from framework.runtime import Runtime
from framework.snapshot import snapshot


def mounts() -> list[str]:
    """The host's mounts, but for their ids."""
    return sorted(line.split(" ", 2)[2] for line in Path("/proc/self/mountinfo").read_text().splitlines())


@pytest.mark.parametrize("victim", ["dev", "proc", "data"])
def test_symlinks_in_the_root_lead_nowhere(
    runtime: Runtime, bundle: BundleMaker, canary: Path, tmp_path: Path, victim: str
) -> None:
    """CVE-2020-2026, CVE-2019-19921, CVE-2021-30465, CVE-2024-45310: mount points that are links to the host."""
    source = tmp_path / "source"
    source.mkdir()
    bind: Spec = {"destination": "/data/inner", "type": "bind", "source": str(source), "options": ["rbind", "rw"]}
    made = bundle("sh", "-c", "touch /data/inner/mark /dev/mark; echo ran", mounts=[bind])
    target = made.rootfs / victim
    if target.exists():
        target.rmdir()
    target.symlink_to(canary)
    before, kept = mounts(), snapshot(canary)
    done = runtime.run(made)
    assert snapshot(canary) == kept
    assert mounts() == before
    if done.status == 0:  # it may also be refused
        assert done.out == "ran\n"


def test_no_two_machines_have_the_same_random_numbers(runtime: Runtime, bundle: BundleMaker) -> None:
    script = "cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid; head -c 32 /dev/urandom | od -An -tx1"
    first, second = (set(runtime.run(bundle("sh", "-c", script)).ok().out.splitlines()) for _ in range(2))
    assert len(first) >= 3
    assert not first & second
