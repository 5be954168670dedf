"""The tier vm: the runtime's command line against real machines. A boot costs ten seconds: share containers."""

import subprocess
from pathlib import Path

import pytest
from framework.fixtures import *  # noqa: F403
from framework.runtime import BOOT_S, Runtime

SETTINGS = "timeouts: {boot_s: 160}\n"


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of templates, which the configuration names."""
    folder = tmp_path / "templates"
    (tmp_path / "katapy.yaml").write_text(f"factory: {{dir: {folder}}}\n{SETTINGS}")
    monkeypatch.setenv("KATAPY_CONFIG", str(tmp_path / "katapy.yaml"))
    return folder


@pytest.fixture
def template(runtime: Runtime, templates: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The template that machines of the default size are cloned from, copied: it may be harmed."""
    with monkeypatch.context() as patch:
        patch.delenv("KATAPY_CONFIG")
        made = Path(runtime("factory", "init", timeout=BOOT_S).ok().out.strip())
    templates.mkdir(0o700)
    subprocess.run(["cp", "-a", "--sparse=always", made, templates / made.name], check=True, text=True)
    return templates / made.name
