"""What a test program said in the Test Anything Protocol, and how that compares with what was expected. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """`failed`: the text of each point that is not ok, without its number; a last one if the program ended badly."""

    passed: int
    skipped: int
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expectation:
    """Points that fail, and why. `count` bounds how many of them do: 0 for any number."""

    points: re.Pattern[str]
    count: int
    why: str


def parse(tap: str, status: int, *, status_tells: bool = True) -> Outcome:
    """`status_tells`: the exit status says more than the points do (bats and crun's tests fail by their points)."""
    passed = skipped = 0
    failed = []
    for line in tap.splitlines():
        point = re.match(r"(not )?ok\b\s*\d*\s*(?:- )?(.*)", line)
        if not point:
            continue
        if re.search(r"#\s*skip", line, re.IGNORECASE):
            skipped += 1
        elif point[1]:
            failed.append(point[2])
        else:
            passed += 1
    plan = re.search(r"^1\.\.(\d+)", tap, re.MULTILINE)
    said = passed + skipped + len(failed)
    if status and status_tells:
        failed.append(f"(ended with status {status})")
    elif not status_tells and (not plan or int(plan[1]) != said):
        failed.append(f"(ended with status {status} after {said} points)")
    return Outcome(passed, skipped, tuple(failed))


def expectations(entries: Iterable[Mapping[str, object]]) -> tuple[Expectation, ...]:
    return tuple(
        Expectation(re.compile(str(entry["points"])), int(str(entry.get("count", 0))), str(entry["why"]))
        for entry in entries
    )


def surprises(outcome: Outcome, expected: Sequence[Expectation]) -> list[str]:
    """The failed points that no expectation covers, and those that are more than its count."""
    left = list(outcome.failed)
    for expectation in expected:
        covered = [point for point in left if expectation.points.fullmatch(point)]
        for point in covered[: expectation.count or None]:
            left.remove(point)
    return left


def stale(outcome: Outcome, expected: Sequence[Expectation]) -> list[str]:
    """Expectations that no failed point met: the runtime may be better than they say."""
    return [e.points.pattern for e in expected if not any(e.points.fullmatch(point) for point in outcome.failed)]
