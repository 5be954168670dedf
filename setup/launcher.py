"""Writes the `katapy` command: `launcher.py CHECKOUT TARGET`. Run by setup/host.sh with the environment's Python.

The command runs Python with -I -S: no `site`, no environment variables, so that it starts fast and nothing outside of
the checkout and its virtual environment is imported. It works with an empty environment.
"""

import os
import sys
import sysconfig
from pathlib import Path

TEMPLATE = """\
#!{python} -IS
import sys
sys.path += [{checkout!r}, {packages!r}]
from katapy.cli.main import main
raise SystemExit(main())
"""


def launcher(python: str, checkout: str, packages: str) -> str:
    """Text of the command. Raises ValueError where the kernel could not read the first line."""
    if len(python) > 200 or any(c.isspace() for c in python):
        raise ValueError(f"the path {python} has blanks or is too long for a #! line: move the checkout")
    return TEMPLATE.format(python=python, checkout=checkout, packages=packages)


def main() -> int:
    checkout, target = sys.argv[1], Path(sys.argv[2])
    text = launcher(sys.executable, checkout, sysconfig.get_path("purelib"))
    if target.exists() and target.read_text() == text:
        return 0
    new = target.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o755)
    os.replace(new, target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
