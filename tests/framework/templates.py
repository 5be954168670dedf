"""A template of the tests' own. Runs in pytest."""

import subprocess
from pathlib import Path

from framework.runtime import BOOT_S, Runtime


def copy_template(runtime: Runtime, folder: Path) -> Path:
    """Makes `folder`, with a copy of the template that machines of the default size are cloned from. Returns that."""
    made = Path(runtime("factory", "init", timeout=BOOT_S).ok().out.strip())
    folder.mkdir(0o700)
    subprocess.run(["cp", "-a", "--sparse=always", made, folder / made.name], check=True, text=True)
    return folder / made.name
