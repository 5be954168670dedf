"""Whom the agent listens to over vsock, and when in a clone. The rest needs a machine: tests/kvm."""

import pytest

from katapy.agent.transport import vsock
from katapy.errors import Timeout


@pytest.mark.parametrize(
    "address, expected", [((2, 1), True), ((2, 1023), True), ((2, 1024), False), ((2, 70000), False), ((3, 900), False)]
)
def test_only_root_of_the_host_is_listened_to(address: tuple[int, int], expected: bool) -> None:
    assert vsock.from_host_root(address) is expected


def test_a_clone_waits_for_an_id_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter([7, 7, 8])
    monkeypatch.setattr(vsock, "local_cid", lambda: next(ids))
    vsock.await_clone(7, 60)
    assert list(ids) == []


def test_a_clone_that_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vsock, "local_cid", lambda: 7)
    with pytest.raises(Timeout, match="this is a clone"):
        vsock.await_clone(7, 0.01)


def test_without_a_device() -> None:
    assert vsock.local_cid("/nosuch") == 0
