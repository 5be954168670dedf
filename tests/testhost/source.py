"""What of the checkout goes into the test host, and how. Runs in whoever owns the test host."""

import io
import tarfile
from pathlib import Path

from testhost.description import CHECKOUT, HERE
from testhost.image import PLACE
from testhost.session import Session

SETTINGS = HERE / "katapy.yaml"

_LEFT_OUT = {".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache",
             "__pycache__", "artefacts", "build", "dist"}  # fmt: skip


def archive(checkout: Path = CHECKOUT) -> bytes:
    """All files but environments, caches and artefacts."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(checkout, ".", filter=_wanted)
    return buffer.getvalue()


def bring(session: Session) -> None:
    """Unpacks it where it belongs, and gives katapy its settings. Raises TestHostError."""
    settings = SETTINGS.relative_to(CHECKOUT)
    script = f"cd /{PLACE}; tar -x; mkdir -p /etc/katapy; cp {settings} /etc/katapy"
    session.demand(["sh", "-e", "-c", script], archive())


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if Path(member.name).name in _LEFT_OUT:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
