"""Find installed programs and ask them for their version, which is remembered in /run. Runs in the CLI.

`qemu --version` takes 31 ms and tells the same until its file changes. Not `subprocess`: importing it costs as much.
"""

import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Iterable

from katapy.errors import HostError
from katapy.linux.process import Confinement, spawn_confined

CACHE = "/run/katapy.versions"

_ANSWER_S = 10.0
_MAX_ANSWER = 64 * 1024
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


def first_executable(candidates: Iterable[str]) -> str | None:
    """The absolute path of the first that exists and can be executed; names without a slash are looked up in PATH."""
    folders = os.environ.get("PATH", os.defpath).split(":")
    for candidate in candidates:
        for path in (
            [candidate] if "/" in candidate else [os.path.join(folder, candidate) for folder in folders if folder]
        ):
            if os.path.isfile(path) and os.access(path, os.X_OK):
                return os.path.abspath(path)
    return None


def version_text(path: str, cache: str = CACHE) -> str:
    """What `path --version` prints. Raises HostError."""
    status = os.stat(path)
    key = f"{path} {status.st_mtime_ns} {status.st_size} {status.st_ino}"
    remembered = os.path.join(cache, path.replace("/", "!"))
    with contextlib.suppress(OSError, ValueError):
        with open(remembered, encoding="utf-8") as f:
            found, text = f.read(_MAX_ANSWER).split("\n", 1)
        if found == key:
            return text
    text = _ask(path)
    with contextlib.suppress(OSError):  # somebody without rights in /run only asks again
        _remember(remembered, f"{key}\n{text}")
    return text


def version_number(text: str) -> tuple[int, ...]:
    """The first number such as 7.2 or 10.0.2 in a text; empty if there is none."""
    match = _VERSION.search(text)
    return tuple(int(part) for part in match.groups() if part is not None) if match else ()


def _ask(path: str) -> str:
    """Asks as the caller, without rights if that is root."""
    read, write = os.pipe2(os.O_CLOEXEC)
    confinement = Confinement(65534, 65534) if os.geteuid() == 0 else None
    try:
        child = spawn_confined([path, "--version"], confinement, stderr=write)
    except HostError:
        os.close(read)
        raise
    finally:
        os.close(write)
    try:
        return _read_all(read, path)
    finally:
        os.close(read)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
        os.close(child.pidfd)


def _read_all(fd: int, path: str) -> str:
    until, text = time.monotonic() + _ANSWER_S, b""
    while len(text) < _MAX_ANSWER:
        if not select.select([fd], [], [], max(0.0, until - time.monotonic()))[0]:
            raise HostError(f"{path} --version did not answer in {_ANSWER_S:g} s")
        data = os.read(fd, _MAX_ANSWER)
        if not data:
            break
        text += data
    return text.decode(errors="replace")


def _remember(path: str, text: str) -> None:
    folder = os.path.dirname(path)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    status = os.lstat(folder)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        return  # somebody else could plant answers there
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(temporary, path)
