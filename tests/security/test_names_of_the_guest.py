"""The host never signals, opens, mounts or executes what a guest names: every act of this process is audited.

The agent puts one canary into every text and number it may say. CPython's audit hooks see each open, kill, exec, unlink
and so on with its arguments; none may carry the canary. ctypes (mounts) is watched by its call event.
"""

import asyncio
import sys
from collections.abc import Iterator

import pytest
from framework.besieged import IMPATIENT, besieged
from framework.evil_names import CANARY, CANARY_NUMBER

pytestmark = pytest.mark.usefixtures("nothing_left")

_seen: list[str] | None = None
_QUIET = ("object.", "sys._getframe", "code.", "compile", "exec", "import", "marshal.", "cpython.", "gc.")
"""Of Python itself, about Python."""


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _seen is not None and not event.startswith(_QUIET):
        _seen.append(f"{event} {arguments!r}")


@pytest.fixture
def acts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What this process did, as text."""
    sys.addaudithook(_watch)  # for good: there is no way to take one back
    seen: list[str] = []
    monkeypatch.setattr(sys.modules[__name__], "_seen", seen)
    yield seen
    monkeypatch.setattr(sys.modules[__name__], "_seen", None)


def test_no_act_carries_what_the_guest_said(acts: list[str]) -> None:
    async def scenario() -> None:
        async with besieged("NamesThings", config=IMPATIENT) as host:
            await host.live()
            assert host.sandbox.ended.is_set()

    asyncio.run(scenario())
    assert any(act.startswith("open ") for act in acts)  # the hook does see things
    named = [act for act in acts if CANARY in act or str(CANARY_NUMBER) in act]
    assert named == []


@pytest.mark.parametrize("method", ["CreateContainer", "Stats", "Stdio"])
def test_nor_what_it_says_in_errors(acts: list[str], method: str) -> None:
    async def scenario() -> None:
        async with besieged("RefusesWithNames", method, IMPATIENT) as host:
            await host.live()

    asyncio.run(scenario())
    assert [act for act in acts if CANARY in act] == []
