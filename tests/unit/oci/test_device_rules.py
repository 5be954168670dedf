"""What rules leave for a device."""

from typing import Any

import pytest

from katapy.oci.device_rules import access, names

DENY_ALL = {"allow": False, "access": "rwm"}
ALLOW_ALL = {"allow": True, "access": "rwm"}
LOOP0 = {"allow": True, "type": "b", "major": 7, "minor": 0, "access": "rw"}


@pytest.mark.parametrize(
    "rules, left",
    [
        ([], ""),
        ([DENY_ALL], ""),
        ([DENY_ALL, LOOP0], "rw"),
        ([LOOP0, DENY_ALL], ""),
        ([DENY_ALL, {**LOOP0, "access": "r"}], "r"),
        ([DENY_ALL, {**LOOP0, "access": None}], "rwm"),
        ([DENY_ALL, {**LOOP0, "type": "c"}], ""),
        ([DENY_ALL, {**LOOP0, "minor": 1}], ""),
        ([DENY_ALL, {**LOOP0, "minor": -1}], "rw"),
        ([DENY_ALL, {**LOOP0, "major": None, "minor": None}], "rw"),
        ([ALLOW_ALL, {**LOOP0, "allow": False, "access": "w"}], "rm"),
        ([DENY_ALL, {"allow": True, "type": "a", "major": 1, "minor": 3, "access": "rwm"}], "rwm"),
    ],
)
def test_the_last_rule_decides(rules: list[dict[str, Any]], left: str) -> None:
    assert access(rules, "b", 7, 0) == left


def test_only_a_rule_of_its_own_names_a_device() -> None:
    assert names([DENY_ALL, LOOP0], "b", 7, 0)
    for other in (ALLOW_ALL, {**LOOP0, "minor": -1}, {**LOOP0, "allow": False}, {**LOOP0, "type": "a"}):
        assert not names([other], "b", 7, 0)
