"""The tier kvm: what can only be seen on a host with KVM, vhost-vsock, cgroup v2 and systemd.

It asks for these, not for a place: where they are missing, tests/conftest.py has it run in a test host.
"""

import pytest
from framework import capabilities
from framework.fixtures import *  # noqa: F403


@pytest.fixture(scope="session", autouse=True)
def _capabilities() -> None:
    """A test host that lacks what it is there for is a defect."""
    assert capabilities.missing() == []
