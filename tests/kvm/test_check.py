"""katapy finds out what this host has."""

from pathlib import Path

from framework.runtime import Runtime


def test_check_finds_kvm_and_vsock(runtime: Runtime) -> None:
    done = runtime("check", timeout=120).ok()
    lines = {line[9:24].strip(): (line[:9].strip(), line[24:].strip()) for line in done.out.splitlines()}
    level, text = lines["accelerator"]
    assert (level, text[:4]) == ("ok", "kvm:"), done.out
    assert lines["transport"] == ("ok", "vsock: /dev/vhost-vsock can be opened")
    assert lines["cgroups"] == ("ok", "v2, 1 hierarchies")
    assert done.out.splitlines()[-1] == "ready"


def test_the_host_is_what_it_says(runtime: Runtime) -> None:
    """What the other tests of this tier rely on."""
    assert Path("/proc/1/comm").read_text() == "systemd\n"
    assert "memory" in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
