"""The test host's bad cases: what can't be built or started is one line, and nothing is left. tests/testhost."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from framework import processes
from framework.leaks import Scope
from framework.wait import wait_for
from testhost import description, image
from testhost.host import TestHost
from testhost.session import TestHostError

from steps import BuildError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
PROGRAM = description.HERE
_PATHS = os.pathsep.join(str(description.CHECKOUT / name) for name in ("", "tests", "guest-image"))
_BUILD = "import sys, pathlib; from testhost import image; image.image(pathlib.Path(sys.argv[1]))"


@pytest.fixture
def small_disk(scope: Scope, tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def _files(folder: Path) -> list[str]:
    """What is in it but the lock."""
    return [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != ".lock"]


def test_an_unknown_suite() -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, "--suite", "nosuch", "true"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 125
    assert (
        done.stderr.splitlines()[-1] == "testhost: error: host.yaml has no suite nosuch: choose one of trixie, bookworm"
    )


def test_too_little_room_is_said_before_anything_is_done(small_disk: Path) -> None:
    with pytest.raises(BuildError, match="MiB free, the test host's image needs"):
        image.image(small_disk)
    assert _files(small_disk) == []


def test_a_disk_that_gets_full_while_the_image_is_built(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "_NEEDED_MIB", 1)
    with pytest.raises(BuildError, match=r"the disk of .* is full: mmdebstrap failed with status"):
        image.image(small_disk)
    assert _files(small_disk) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """SIGKILL leaves a folder that the next build takes away."""
    before = {p.pid for p in processes.descendants(os.getpid())}
    build = subprocess.Popen(
        [sys.executable, "-c", _BUILD, tmp_path],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": _PATHS},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    wait_for("packages are being unpacked", lambda: list(tmp_path.glob("images/.tmp-*/tree/var/cache/apt")), 120)
    build.send_signal(number)
    build.wait(60)
    wait_for("all it had started has ended", lambda: {p.pid for p in processes.descendants(os.getpid())} <= before, 60)
    if number is signal.SIGKILL:
        (leftover,) = (tmp_path / "images").iterdir()
        assert leftover.name.startswith(".tmp-")
    else:
        assert _files(tmp_path) == []


def test_no_guest_image(tmp_path: Path) -> None:
    with pytest.raises(TestHostError, match=f"no guest image in {tmp_path}/nosuch: make image"):
        TestHost(guest=tmp_path / "nosuch")
