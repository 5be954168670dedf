"""Whom the agent listens to over vsock. The rest needs a machine: tests/kvm."""

import pytest

from katapy.agent.transport.vsock import from_host_root


@pytest.mark.parametrize(
    "address, expected", [((2, 1), True), ((2, 1023), True), ((2, 1024), False), ((2, 70000), False), ((3, 900), False)]
)
def test_only_root_of_the_host_is_listened_to(address: tuple[int, int], expected: bool) -> None:
    assert from_host_root(address) is expected
