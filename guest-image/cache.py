"""Folders that are made once and kept: a lock, whole or not there at all, leftovers of killed builds. Build host."""

import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from steps import step

_TEMPORARY = ".tmp-"


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """One build at a time in the folder `output`; the lock goes with the process."""
    with (output / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step("waiting for another build"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def once(target: Path, make: Callable[[Path], None]) -> None:
    """`make` fills a temporary folder beside `target`, which is then renamed: target is whole, or not there."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=_TEMPORARY))
    try:
        folder.chmod(0o755)
        make(folder)
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder)
        raise


def clear_leftovers(*parents: Path) -> None:
    """What a killed build left in these folders. Only under the lock: nobody else writes there."""
    for parent in parents:
        for folder in parent.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(folder)
