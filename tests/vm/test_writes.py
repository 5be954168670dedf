"""share.writes: what a container changes in its root file system stays in the guest, and nothing else changes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from framework.bundle import Bundle
from framework.runtime import Container, Runtime
from framework.settings import write_settings
from framework.snapshot import snapshot

BundleMaker = Callable[..., Bundle]
ANNOTATION = "io.katapy.guest-writes"


@pytest.fixture(params=["auto", "9p"])
def share(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    share = {"writes": "guest", "type": request.param}
    monkeypatch.setenv("KATAPY_CONFIG", str(write_settings(tmp_path / "katapy.yaml", share=share)))
    return str(request.param)


def changed(container: Container) -> str:
    """Makes, changes, moves and removes; what the container sees then."""
    return container.sh(
        "echo new >/new; echo more >>/etc/passwd; mkdir -p /opt/a/b; mv /etc/group /etc/moved; rm -r /root;"
        "cat /new; tail -n 1 /etc/passwd; ls -d /opt/a/b /etc/moved; ls -d /root /etc/group 2>/dev/null | wc -l"
    )


def test_changes_stay_in_the_guest(runtime: Runtime, bundle: BundleMaker, tmp_path: Path, share: str) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    mount = {"destination": "/volume", "type": "bind", "source": str(volume), "options": ["bind"]}
    made = bundle(mounts=[mount])
    before = snapshot(made.rootfs)
    container = runtime.start(made)
    assert changed(container).split() == ["new", "more", "/etc/moved", "/opt/a/b", "0"]
    container.sh("echo kept >/volume/file")
    assert snapshot(made.rootfs) == before
    assert (volume / "file").read_text() == "kept\n"
    assert container.sh("stat -c %a:%u:%g /") == f"{made.rootfs.stat().st_mode & 0o7777:o}:0:0"
    container.delete("--force")


def test_a_read_only_root_stays_read_only(runtime: Runtime, bundle: BundleMaker, share: str) -> None:
    container = runtime.start(bundle(root={"path": "rootfs", "readonly": True}))
    assert "Read-only" in container.exec("sh", "-c", "echo x >/new").err


def test_a_pod_may_choose_where_it_is_allowed(
    runtime: Runtime, bundle: BundleMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = write_settings(tmp_path / "katapy.yaml", annotations={"allowed": [ANNOTATION]})
    monkeypatch.setenv("KATAPY_CONFIG", str(allowed))
    made = bundle(annotations={ANNOTATION: "true"})
    container = runtime.start(made)
    container.sh("echo x >/new")
    assert not (made.rootfs / "new").exists()
    other = bundle(annotations={ANNOTATION: "false"})
    container = runtime.start(other)
    container.sh("echo x >/new")
    assert (other.rootfs / "new").exists()
    assert "neither true nor false" in runtime.try_create(bundle(annotations={ANNOTATION: "yes"}))[1].err


def test_elsewhere_it_may_not(runtime: Runtime, bundle: BundleMaker) -> None:
    _, result = runtime.try_create(bundle(annotations={ANNOTATION: "true"}))
    assert "is not allowed" in result.err
