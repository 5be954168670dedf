"""What `share.writes: guest` means for Podman: it sees the image and its own work, never the guest's changes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines.conftest import SHIPPED_CONFIG
from framework.fixtures import HOST_RUNTIMES
from framework.leaks import Scope
from framework.podman import IMAGE, Box, Podman, cgroup_parent
from framework.runtime import Runtime
from framework.settings import write_settings


@pytest.fixture(scope="module")
def podman(
    podman_is_installed: None, module_runtime: Runtime, scope: Scope, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Podman]:
    if module_runtime.name in HOST_RUNTIMES:
        pytest.skip("a setting of katapy")
    config = write_settings(tmp_path_factory.mktemp("config") / "katapy.yaml", share={"writes": "guest"})
    runtime = Runtime(module_runtime.path, module_runtime.root, scope.token, ("--configuration", str(config)))
    folder = scope.root / "podman"
    cgroup = cgroup_parent(scope.token)
    with contextlib.closing(Podman(folder, SHIPPED_CONFIG.read_text(), runtime, cgroup, True)) as podman:
        yield podman


@pytest.fixture(scope="module")
def box(podman: Podman) -> Box:
    box = podman.detached("--name=box", "-i", IMAGE, "sh", "-c", "echo started; exec cat")
    box.wait_logs("started\n")
    box.sh("echo changed >/changed; mkdir /made")
    return box


def test_the_container_sees_its_changes(box: Box) -> None:
    assert box.sh("cat /changed; ls -d /made") == "changed\n/made"


def test_diff_commit_and_cp_do_not(podman: Podman, box: Box, tmp_path: Path) -> None:
    assert "changed" not in box("diff").ok().out
    assert podman("cp", f"{box.id}:/changed", tmp_path / "out").status != 0
    podman("commit", box.id, "localhost/committed").ok()
    mounted = Path(podman("image", "mount", "localhost/committed").ok().out.strip())
    assert (mounted / "bin/busybox").exists()
    assert not (mounted / "changed").exists()
    podman("image", "unmount", "localhost/committed").ok()


def test_what_the_image_has_can_be_copied_out(podman: Podman, box: Box, tmp_path: Path) -> None:
    podman("cp", f"{box.id}:/etc/passwd", tmp_path / "passwd").ok()
    assert "root" in (tmp_path / "passwd").read_text()
