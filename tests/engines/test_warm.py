"""Engines where a zygote keeps a machine warm: what they start gets it, as if they had started it themselves."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines.conftest import SHIPPED_CONFIG
from engines.test_containerd import FOREVER, Pod, shipped_containerd
from framework.fixtures import HOST_RUNTIMES, copy_template
from framework.leaks import Scope
from framework.podman import IMAGE, Podman
from framework.runtime import Runtime
from framework.zygote import Zygote


@pytest.fixture
def configured(runtime: Runtime, scope: Scope, tmp_path: Path) -> Runtime:
    """The runtime with a folder of templates of its own."""
    if runtime.name in HOST_RUNTIMES:
        pytest.skip("warm machines are katapy's")
    templates, settings = tmp_path / "templates", tmp_path / "katapy.yaml"
    copy_template(runtime, templates)
    settings.write_text(f"factory: {{pool: 1, dir: {templates}}}\n")
    return Runtime(runtime.path, runtime.root, scope.token, ("--configuration", str(settings)))


@pytest.fixture
def zygote(configured: Runtime) -> Iterator[Zygote]:
    zygote = Zygote(configured, Path(configured.global_args[1]))
    yield zygote
    assert zygote.end() == 0, zygote.said()


def test_podman(podman_is_installed: None, configured: Runtime, zygote: Zygote, scope: Scope) -> None:
    cgroup = f"/{scope.token}-{secrets.token_hex(3)}"
    zygote.await_warm()
    engine = Podman(scope.root / "podman", SHIPPED_CONFIG.read_text(), configured, cgroup, True)
    with contextlib.closing(engine) as podman:
        assert podman.run(IMAGE, "sh", "-c", "echo well; exit 3").status == 3
        assert zygote.status()["served"] == {"forked": 0, "warm": 1, "refused": 0}
        zygote.await_warm()
        box = podman.detached("-i", "--hostname=box", IMAGE, "cat")
        assert box.sh("hostname; echo written >/file") == "box"
        assert "A /file" in box("diff").ok().out
        assert zygote.status()["served"] == {"forked": 0, "warm": 2, "refused": 0}


def test_containerd(configured: Runtime, zygote: Zygote, scope: Scope) -> None:
    with shipped_containerd(configured, scope) as containerd:
        zygote.await_warm()
        pod = Pod(containerd, "warm")
        assert zygote.status()["served"] == {"forked": 0, "warm": 1, "refused": 0}
        box = pod.start("box", *FOREVER)
        assert containerd.sh(box, "hostname; ls /sys/class/net") == "warm\neth0\nlo"
        containerd.remove(pod.id)
