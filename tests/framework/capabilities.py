"""What the tier kvm asks of a host. Runs in pytest; nothing of katapy is used, its own probes are under test."""

import os
from pathlib import Path


def missing() -> list[str]:
    """What this host lacks, in words; empty if the tier can run here."""
    lacking = {
        "root": os.geteuid() != 0,
        "KVM": not _opens("/dev/kvm") or not {"svm", "vmx"} & set(_cpu_flags()) or Path("/sys/module/kvm_pvm").exists(),
        "vhost-vsock": not _opens("/dev/vhost-vsock"),
        "cgroup v2 alone": not Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        "systemd": not Path("/run/systemd/system").is_dir(),
    }
    return [name for name, lacks in lacking.items() if lacks]


def _opens(device: str) -> bool:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _cpu_flags() -> list[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split() for line in lines if line.startswith("flags")), [])
