"""Whether katapy's files are still those that this process has imported. Zygote only."""

import os
import sys


def files() -> list[str]:
    """Of katapy's modules that this process has imported."""
    ours = (module for name, module in sys.modules.items() if name.split(".")[0] == "katapy")
    return sorted(path for module in ours if (path := getattr(module, "__file__", None)))


def identity(files: list[str]) -> str:
    """Changes whenever one of them is replaced."""
    marks = []
    for path in files:
        try:
            status = os.stat(path)
            marks.append(f"{path} {status.st_ino} {status.st_mtime_ns} {status.st_size}")
        except OSError:
            marks.append(f"{path} is gone")
    return "\n".join(marks)
