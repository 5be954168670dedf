"""The tier engines: Podman with the runtime under test. A container is a boot of ten seconds: share them."""

import contextlib
import shutil
from collections.abc import Iterator

import pytest
from framework.fixtures import (
    CHECKOUT,
    HOST_RUNTIMES,
    module_runtime,
    no_leaks,
    no_leaks_of_the_module,
    runtime_path,
    scope,
    unavailable,
)
from framework.leaks import Scope
from framework.podman import IMAGE, Box, Podman, cgroup_parent
from framework.runtime import Runtime

__all__ = ["box", "module_runtime", "no_leaks", "no_leaks_of_the_module", "podman", "runtime_path", "scope"]

SHIPPED_CONFIG = CHECKOUT / "configs/podman/katapy.conf"


@pytest.fixture(scope="session")
def podman_is_installed() -> None:
    missing = [name for name in ("podman", "conmon") if shutil.which(name) is None]
    if missing:
        unavailable(f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def podman(podman_is_installed: None, module_runtime: Runtime, scope: Scope) -> Iterator[Podman]:
    """Podman as a user of the shipped configuration has it, in folders of its own."""
    guest = module_runtime.name not in HOST_RUNTIMES
    folder = scope.root / "podman"
    cgroup = cgroup_parent(scope.token)
    with contextlib.closing(Podman(folder, SHIPPED_CONFIG.read_text(), module_runtime, cgroup, guest)) as podman:
        yield podman


@pytest.fixture(scope="module")
def box(podman: Podman) -> Box:
    """A container that has said `started` and reads its stdin for ever. Tests leave it as it was.

    sys_ptrace: without it Podman 5 runs the host's ps for `podman top -ef` (docs/limitations.md).
    """
    script = "echo started; echo trouble >&2; exec cat"
    return podman.detached("--name=box", "--cap-add=sys_ptrace", "-i", IMAGE, "sh", "-c", script)
