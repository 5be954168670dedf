"""Attacks from inside of real machines, and what the host's processes are allowed. Root, and a boot for each module."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from framework import fixtures
from framework.fixtures import *  # noqa: F403
from framework.snapshot import snapshot

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.vm)
            item.add_marker(pytest.mark.guest)
            if not fixtures.is_root():
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of the host that no guest is given: it must stay as it is."""
    folder = tmp_path_factory.mktemp("canary")
    (folder / "secret").write_text("of the host")
    before = snapshot(folder)
    yield folder
    assert snapshot(folder) == before
