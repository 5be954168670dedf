"""Help texts, held by golden files. Written anew by: KATAPY_UPDATE_GOLDEN=1 pytest tests/unit/cli/test_help.py"""

import os
from pathlib import Path

import pytest

from katapy.cli import help
from katapy.cli.main import main
from katapy.cli.table import VERBS

GOLDEN = Path(__file__).parents[2] / "golden" / "cli"


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help(verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"] if verb else []) == 0
    shown = capfd.readouterr().out
    file = GOLDEN / f"help-{verb or 'katapy'}.txt"
    if os.environ.get("KATAPY_UPDATE_GOLDEN"):
        file.write_text(shown)
    assert shown == file.read_text()
    assert shown == help.text(verb)


def test_every_verb_has_a_module_or_a_refusal() -> None:
    from katapy.cli.main import _UNSUPPORTED

    for verb in VERBS:
        assert verb in _UNSUPPORTED or Path(help.__file__).with_name(f"{verb}.py").exists(), verb
