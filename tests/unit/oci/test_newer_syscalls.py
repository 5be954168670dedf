"""System calls that a seccomp profile does not know yet."""

from typing import Any

import pytest

from katapy.oci.newer_syscalls import NUMBERS, answer_newer


def profile(*names: str, action: str = "SCMP_ACT_ERRNO", **more: Any) -> dict[str, Any]:
    return {"defaultAction": action, "syscalls": [{"names": list(names), "action": "SCMP_ACT_ALLOW"}], **more}


@pytest.mark.parametrize("name, number", [("pidfd_send_signal", 424), ("clone3", 435), ("mseal", 462)])
def test_numbers_are_the_kernels(name: str, number: int) -> None:
    assert NUMBERS[name] == number


@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
def test_what_came_after_the_last_one_named_is_unknown(action: str) -> None:
    given = profile("read", "futex_wake", "clone3", action=action, defaultErrnoRet=1)
    *rules, last = answer_newer(given)["syscalls"]
    assert rules == given["syscalls"]
    assert last["names"][0] == "futex_wait"
    assert "mseal" in last["names"]
    assert (last["action"], last["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)


@pytest.mark.parametrize(
    "given",
    [
        profile("read", action="SCMP_ACT_ALLOW"),
        profile("read", action="SCMP_ACT_LOG"),
        profile("read", defaultErrnoRet=38),
        profile(list(NUMBERS)[-1]),
        {"defaultAction": "SCMP_ACT_ERRNO"},
        {},
    ],
)
def test_other_profiles_stay_as_they_are(given: dict[str, Any]) -> None:
    assert answer_newer(given) == given
