"""The pool where the host refuses what a machine is made of."""

import errno
import os
from types import SimpleNamespace
from typing import Any

import pytest

from katapy import config
from katapy.zygote import newborn, pool


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> pool.Pool:
    """One that is to make a machine, on a host that has all for it."""
    found = pool.Pool(config.Config, lambda *_: None, lambda _: None)
    found.wanted = 1
    plan: Any = SimpleNamespace(memory_mib=1)
    wish: Any = SimpleNamespace(digest="d", plan=plan)
    found._wish = wish
    monkeypatch.setattr(found, "_look", lambda: None)
    return found


@pytest.mark.parametrize("call", ["fork", "pidfd_open"])
def test_a_host_that_is_short_of_something_is_asked_again_later(
    short: pool.Pool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], call: str
) -> None:
    def refused(*_: object) -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(newborn, "fork", refused if call == "fork" else lambda *_: os.getpid())
    if call == "pidfd_open":
        monkeypatch.setattr(os, "pidfd_open", refused)
    before = set(os.listdir("/proc/self/fd"))
    assert 0 < short.tend() <= pool.LOOK_S
    assert short.machines == []
    assert "resource temporarily unavailable; the next try is in 60 s" in capfd.readouterr().err
    assert set(os.listdir("/proc/self/fd")) == before
