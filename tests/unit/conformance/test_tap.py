"""The comparison of what public suites say with what is expected: pure."""

import pytest
import yaml
from conformance import tap
from conformance.__main__ import EXPECTED, SUITES

BATS = """1..4
ok 1 runc run
not ok 2 runc events --stats
# (in test file events.bats, line 3)
ok 3 runc run [systemd] # skip test requires systemd
not ok 4 runc ps (a) [b]
"""


def test_bats_points() -> None:
    outcome = tap.parse(BATS, 1, status_tells=False)
    assert outcome == tap.Outcome(1, 1, ("runc events --stats", "runc ps (a) [b]"))


def test_points_of_crun_and_runtime_tools() -> None:
    text = "TAP version 13\n1..3\nok 1 - a\nnot ok 2 - b c\nok 3 - d #SKIP\n"
    assert tap.parse(text, 0, status_tells=False) == tap.Outcome(1, 1, ("b c",))


@pytest.mark.parametrize(
    "text,status,status_tells,failed",
    [
        ("1..2\nok 1 - a\n", 0, False, ("(ended with status 0 after 1 points)",)),
        ("", -9, False, ("(ended with status -9 after 0 points)",)),
        ("ok 1 - a\n1..1\n", 0, True, ()),
        ("ok 1 - a\n1..1\n", 1, True, ("(ended with status 1)",)),
    ],
)
def test_a_program_that_ends_badly_has_failed(text: str, status: int, status_tells: bool, failed: tuple[str]) -> None:
    assert tap.parse(text, status, status_tells=status_tells).failed == failed


def test_only_what_is_expected_may_fail_and_only_so_often() -> None:
    outcome = tap.Outcome(0, 0, ("limit of a", "limit of b", "limit of c", "mount of a"))
    expected = tap.expectations(
        [
            {"points": "limit of .*", "count": 2, "why": "x"},
            {"points": "mount", "why": "a pattern is for the whole text"},
            {"points": "never", "why": "x"},
        ]
    )
    assert tap.surprises(outcome, expected) == ["limit of c", "mount of a"]
    assert tap.stale(outcome, expected) == ["mount", "never"]
    assert tap.surprises(outcome, tap.expectations([{"points": ".*", "why": "no count"}])) == []


def test_what_is_expected_is_of_suites_that_exist_and_has_reasons() -> None:
    document = yaml.safe_load(EXPECTED.read_text())
    assert document.keys() == SUITES.keys()
    for suite, programs in document.items():
        for program, entries in programs.items():
            assert all(len(e.why) > 5 for e in tap.expectations(entries)), f"{suite} {program}"
