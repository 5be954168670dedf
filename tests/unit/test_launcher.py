"""The `katapy` command that set-up writes. No root."""

import subprocess
import sys
from pathlib import Path

import grpc
import launcher
import pytest


def test_works_with_an_empty_environment(tmp_path: Path) -> None:
    """Also without `site`: only the checkout and the environment's packages are added to Python's own paths."""
    package = tmp_path / "katapy/cli"
    package.mkdir(parents=True)
    (package / "main.py").write_text(
        "import sys, grpc\ndef main():\n    print('site' in sys.modules, sys.argv[1:])\n    return 7\n"
    )
    command = tmp_path / "katapy-command"
    packages = Path(str(grpc.__file__)).parents[1]
    command.write_text(launcher.launcher(sys.executable, str(tmp_path), str(packages)))
    command.chmod(0o755)
    done = subprocess.run([str(command), "state", "x"], env={}, cwd="/", capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (7, "False ['state', 'x']\n", "")


@pytest.mark.parametrize("python", ["/with blank/python3", "/" + "x" * 250])
def test_path_the_kernel_can_not_read(python: str) -> None:
    with pytest.raises(ValueError, match="move the checkout"):
        launcher.launcher(python, "/c", "/p")
