"""Processors of a machine that runs: guests take them under KVM, not where they are emulated."""

import pytest
from framework.bundle import FOREVER
from framework.fixtures import BundleMaker
from framework.pod import Pod
from framework.runtime import Runtime
from framework.wait import wait_for

pytestmark = pytest.mark.long
GIVEN_BACK_S = 60.0


def test_processors_come_and_go_with_quotas(runtime: Runtime, bundle: BundleMaker) -> None:
    pod = Pod(runtime, bundle)

    def online() -> str:
        return pod.sandbox.sh("cat /sys/devices/system/cpu/online")

    assert online() == "0"
    member = pod.start(*FOREVER, resources={"cpu": {"quota": 200_000, "period": 100_000}})
    assert online() == "0-1"
    runtime("update", "--cpu-quota", "50000", member.id).ok()
    wait_for("the second one to go", lambda: online() == "0", GIVEN_BACK_S)
    runtime("update", "--cpu-quota", "150000", member.id).ok()
    assert online() == "0-1"
    member.delete("--force")
    member.wait()
    wait_for("the second one to go with its container", lambda: online() == "0", GIVEN_BACK_S)
    log = pod.sandbox.log
    assert "can't be changed" not in log
