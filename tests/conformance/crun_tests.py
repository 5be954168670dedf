"""crun 1.21's own tests: `tests/test_*.py` of the source archive in Debian's pool. Needs a C compiler."""

import hashlib
import subprocess
import sys
import urllib.request
from pathlib import Path

from conformance.suite import Suite

VERSION = "1.21"
ARCHIVE = f"http://deb.debian.org/debian/pool/main/c/crun/crun_{VERSION}.orig.tar.gz"
SHA256 = "4bfb700e764a4804a4de3ecf07753f4c391005356d60356df65d80ae0914c486"


def _source(folder: Path) -> Path:
    return folder / f"crun-{VERSION}"


def _programs(folder: Path) -> list[str]:
    files = (_source(folder) / "tests").glob("test_*.py")
    return sorted(file.stem for file in files)


def _prepare(folder: Path) -> None:
    source = _source(folder)
    if not source.exists():
        archive = folder / "crun.tar.gz"
        urllib.request.urlretrieve(ARCHIVE, archive)
        if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
            raise SystemExit(f"{ARCHIVE} is not the archive that is expected")
        subprocess.run(["tar", "-C", folder, "-xf", archive], check=True)
    if not (source / "tests/init").exists():
        (source / "config.h").write_text("#define HAVE_SECCOMP 1\n")
        subprocess.run(["gcc", "-static", "-I", ".", "tests/init.c", "-o", "tests/init"], cwd=source, check=True)


def _environment(folder: Path, runtime: Path) -> dict[str, str]:
    return {"OCI_RUNTIME": str(runtime), "INIT": str(_source(folder) / "tests/init")}


CRUN = Suite(
    prepare=_prepare,
    programs=_programs,
    command=lambda folder, program: [sys.executable, str(_source(folder) / "tests" / f"{program}.py")],
    environment=_environment,
    status_tells=False,
)
