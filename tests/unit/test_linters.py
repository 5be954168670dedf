"""Style, types and the import directions, as tests. No root."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

LINTERS = {
    "ruff format": ["ruff", "format", "--check", "--quiet", "."],
    "ruff check": ["ruff", "check", "--quiet", "--output-format=concise", "."],
    "mypy": ["mypy", "--no-error-summary"],
    "import-linter": ["lint-imports", "--no-logo"],
}


@pytest.mark.parametrize("name", LINTERS)
def test_clean(name: str) -> None:
    program, *arguments = LINTERS[name]
    done = subprocess.run(
        [str(BIN / program), *arguments], cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{name}:\n{done.stdout[-6000:]}{done.stderr[-2000:]}"


def test_shell_scripts_parse() -> None:
    scripts = [p for p in CHECKOUT.glob("*/*") if p.is_file() and p.read_bytes()[:9] == b"#!/bin/sh"]
    assert scripts
    for script in scripts:
        subprocess.run(["sh", "-n", str(script)], check=True, timeout=10)
