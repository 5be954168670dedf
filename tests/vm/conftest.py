"""The tier vm: the runtime's command line against real machines. A boot costs ten seconds: share containers."""

from pathlib import Path

import pytest
from framework.fixtures import *  # noqa: F403
from framework.runtime import Runtime
from framework.settings import write_settings
from framework.templates import copy_template
from framework.wait import PATIENCE


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of templates, which the configuration names."""
    folder = tmp_path / "templates"
    timeouts = {"boot_s": 160 * PATIENCE}
    made = write_settings(tmp_path / "katapy.yaml", factory={"dir": str(folder)}, timeouts=timeouts)
    monkeypatch.setenv("KATAPY_CONFIG", str(made))
    return folder


@pytest.fixture
def template(runtime: Runtime, templates: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The template that machines of the default size are cloned from, copied: it may be harmed."""
    with monkeypatch.context() as patch:
        patch.delenv("KATAPY_CONFIG")
        return copy_template(runtime, templates)
