"""Who has which PCI Express slot."""

import pytest

from katapy.errors import HypervisorError
from katapy.hypervisor.qemu.slots import Slots


def test_slots_are_taken_given_back_and_run_out() -> None:
    slots = Slots(2)
    assert slots.take("nic-1") == "slot-0"
    assert slots.take("nic-2") == "slot-1"
    with pytest.raises(HypervisorError, match="no free slot"):
        slots.take("nic-3")
    slots.release("nic-1")
    assert slots.take("nic-3") == "slot-0"
    with pytest.raises(KeyError):
        slots.release("nic-1")
