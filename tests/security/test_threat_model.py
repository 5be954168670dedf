"""docs/threat-model.md claims nothing without a test that is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/threat-model.md").read_text()
CITED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def test_every_cited_test_exists() -> None:
    missing = [f"{path}::{name}" for path, name in CITED if not _defines(ROOT / path, name)]
    assert missing == []
    assert len(CITED) > 40


def _defines(path: Path, name: str) -> bool:
    return path.exists() and re.search(rf"^def {name}\(", path.read_text(), re.MULTILINE) is not None


def test_every_claim_about_a_wall_cites_a_test() -> None:
    walls = PAGE.split("## The walls")[1].split("## What is not promised")[0]
    claims = re.split(r"^- ", walls, flags=re.MULTILINE)[1:]
    assert [claim for claim in claims if "::test_" not in claim] == []


def test_every_attack_of_this_folder_is_cited() -> None:
    written = {
        (str(path.relative_to(ROOT)), name)
        for path in (ROOT / "tests/security").rglob("test_*.py")
        if path != Path(__file__)
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    uncited = {name for path, name in written - set(CITED)}
    assert uncited <= {
        # what follows from a claim rather than proving one
        "test_another_protocol_version_is_refused_with_the_remedy",
        "test_every_method_is_attacked",
        "test_output_after_the_end_does_not_hold_the_end_back",
        "test_a_slow_reader_gets_all_of_a_flood_in_order",
        "test_a_reader_that_is_gone_stops_nothing_else",
        "test_the_table_of_ps_shows_any_process",
    }
