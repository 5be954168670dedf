"""Podman where a zygote keeps a machine warm: what it starts gets it, though it lowers its limit of processes."""

import contextlib
from pathlib import Path

import pytest
from engines.conftest import SHIPPED_CONFIG
from framework.fixtures import HOST_RUNTIMES
from framework.leaks import Scope
from framework.podman import IMAGE, Podman, cgroup_parent
from framework.runtime import Runtime
from framework.settings import write_settings
from framework.templates import copy_template
from framework.zygote import Zygote


def test_podman(podman_is_installed: None, module_runtime: Runtime, scope: Scope, tmp_path: Path) -> None:
    if module_runtime.name in HOST_RUNTIMES:
        pytest.skip("warm machines are katapy's")
    copy_template(module_runtime, tmp_path / "templates")
    settings = write_settings(tmp_path / "katapy.yaml", factory={"pool": 1, "dir": str(tmp_path / "templates")})
    runtime = Runtime(module_runtime.path, module_runtime.root, scope.token, ("--configuration", str(settings)))
    zygote = Zygote(runtime, settings)
    engine = Podman(scope.root / "podman", SHIPPED_CONFIG.read_text(), runtime, cgroup_parent(scope.token), True)
    try:
        with contextlib.closing(engine) as podman:
            zygote.await_warm()
            box = podman.detached("-i", "--hostname=box", IMAGE, "cat")
            assert box.sh("hostname; echo written >/file") == "box"
            assert "A /file" in box("diff").ok().out
            assert zygote.status()["served"] == {"forked": 0, "warm": 1, "refused": 0}
    finally:
        status = zygote.end()
    assert status == 0, zygote.said()
