"""Templates on disk: found, locked, published, thrown away, collected. CLI and supervisor.

    <directory>/<key>/              a template, whole since its rename: memory, state, template.json; mtime: last use
    <directory>/<key>.lock          held (flock) by whoever makes it, who takes it away; given back when he dies
    <directory>/<key>.failed        JSON {"reason"}: why it could not be made; younger than RETRY_S, nobody tries again
    <directory>/<key>.broken        its clone did not live; a second one within RETRY_S counts as failed
    <directory>/.new-<key>-<pid>/   one that is being made, or whose maker was killed

Root only (0700): a template is the memory of every pod that is cloned from it.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from katapy.errors import HostError, Timeout, errno_text

RETRY_S = 600.0
_POLL_S = 0.05
_DESCRIPTION = "template.json"
_NEW = ".new-"


@dataclass(frozen=True, slots=True)
class Template:
    """`size` is what it takes on disk, in bytes; times are seconds since 1970."""

    key: str
    path: str
    size: int
    made: float
    used: float
    description: dict[str, Any]


class Store:
    """Raises HostError for a directory that can't be used."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def find(self, key: str) -> str | None:
        """The folder of a template, which counts as used now."""
        path = f"{self.directory}/{key}"
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise HostError(f"can't use the template {path}: {errno_text(e)}") from e
        return path

    @contextlib.contextmanager
    def lock(self, key: str, deadline_s: float) -> Iterator[None]:
        """Held by one maker at a time. Raises Timeout if somebody else takes longer than that, HostError."""
        path, until = f"{self.directory}/{key}.lock", time.monotonic() + deadline_s
        while (fd := self._try_lock(path)) < 0:
            if time.monotonic() >= until:
                raise Timeout("waiting for somebody else to make the template", deadline_s)
            time.sleep(_POLL_S)
        try:
            yield
        finally:
            _unlink(path)
            os.close(fd)

    @contextlib.contextmanager
    def new(self, key: str, description: dict[str, Any]) -> Iterator[str]:
        """A folder to make a template in, for whoever holds the lock: at the end of the block it is the template; after
        an exception it is gone. Raises HostError."""
        for name in self._entries():
            if name.startswith(f"{_NEW}{key}-"):  # of one who held the lock before, and was killed
                _remove_folder(f"{self.directory}/{name}")
        folder = f"{self.directory}/{_NEW}{key}-{os.getpid()}"
        try:
            os.mkdir(folder, 0o700)
            yield folder
            with open(f"{folder}/{_DESCRIPTION}", "x", encoding="utf-8") as f:
                json.dump({**description, "made": time.time()}, f)
            os.utime(folder)
            os.rename(folder, f"{self.directory}/{key}")
            _unlink(f"{self.directory}/{key}.failed")
        except OSError as e:
            raise HostError(f"can't make a template in {self.directory}: {errno_text(e)}") from e
        finally:
            _remove_folder(folder)

    def failure(self, key: str) -> str | None:
        """Why it could not be made a short while ago."""
        return self._recent(f"{key}.failed")

    def mark_failed(self, key: str, reason: str) -> None:
        """Nobody tries again for a while."""
        self._mark(f"{key}.failed", reason)

    def forget_failure(self, key: str) -> None:
        """Somebody wants it tried again."""
        _unlink(f"{self.directory}/{key}.failed")
        _unlink(f"{self.directory}/{key}.broken")

    def discard(self, key: str, reason: str) -> None:
        """Throws away a template whose clone did not live. The next create makes a new one, unless this was one."""
        if self._recent(f"{key}.broken") is not None:
            self.mark_failed(key, reason)
        self._mark(f"{key}.broken", reason)
        self.remove(key)

    def remove(self, key: str) -> None:
        """Clones that run keep what they have. Idempotent."""
        grave = f"{self.directory}/{_NEW}{key}-{os.getpid()}-old"
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{self.directory}/{key}", grave)  # at once: nobody finds half of it
        _remove_folder(grave)

    def templates(self) -> list[Template]:
        """What there is, the last used first; what can't be read is no template."""
        found = []
        for name in self._entries():
            path = f"{self.directory}/{name}"
            if name.startswith(".") or not os.path.isdir(path):
                continue
            try:
                with open(f"{path}/{_DESCRIPTION}", encoding="utf-8") as f:
                    description = json.load(f)
                size = sum(os.stat(f"{path}/{part}").st_blocks * 512 for part in os.listdir(path))
                found.append(Template(name, path, size, description["made"], os.stat(path).st_mtime, description))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return sorted(found, key=lambda t: t.used, reverse=True)

    def collect(self, keep: int, stale: "frozenset[str] | set[str]" = frozenset()) -> list[str]:
        """Removes templates named in `stale`, those beyond the `keep` last used, and what killed makers left.

        The keys that went.
        """
        gone = [t.key for n, t in enumerate(self.templates()) if n >= keep or t.key in stale]
        for key in gone:
            self.remove(key)
        for name in self._entries():
            if name.startswith(_NEW) and not self._is_being_made(name.removeprefix(_NEW).partition("-")[0]):
                _remove_folder(f"{self.directory}/{name}")
            if name.endswith(".lock") and not name.startswith("."):
                self._sweep(f"{self.directory}/{name}")
        return gone

    def destroy(self) -> list[str]:
        """Removes everything but what is being made just now. The keys of the templates that went."""
        gone = self.collect(0)
        for name in self._entries():
            if name.endswith((".failed", ".broken")):
                _unlink(f"{self.directory}/{name}")
        return gone

    def failures(self) -> dict[str, str]:
        """Keys of those that can't be made at the moment, and why."""
        keys = [name.removesuffix(".failed") for name in self._entries() if name.endswith(".failed")]
        return {key: reason for key in keys if (reason := self.failure(key)) is not None}

    def _entries(self) -> list[str]:
        try:
            return sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return []
        except OSError as e:
            raise HostError(f"can't read {self.directory}: {errno_text(e)}") from e

    def _sweep(self, lock: str) -> None:
        """Takes away what somebody who was killed had locked."""
        if (fd := self._try_lock(lock)) >= 0:
            _unlink(lock)
            os.close(fd)

    def _try_lock(self, path: str) -> int:
        """A descriptor that holds the lock, the caller's, or -1. Raises HostError."""
        try:
            os.makedirs(self.directory, 0o700, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise HostError(f"can't keep templates in {self.directory}: {errno_text(e)}") from e
        if _lock(fd) and _is_still(path, fd):
            return fd
        os.close(fd)
        return -1

    def _is_being_made(self, key: str) -> bool:
        try:
            fd = os.open(f"{self.directory}/{key}.lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _lock(fd)
        finally:
            os.close(fd)

    def _recent(self, name: str) -> str | None:
        path = f"{self.directory}/{name}"
        try:
            with open(path, encoding="utf-8") as f:
                if not 0 <= time.time() - os.fstat(f.fileno()).st_mtime < RETRY_S:
                    return None
                return str(json.load(f)["reason"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return "unknown"

    def _mark(self, name: str, reason: str) -> None:
        try:
            os.makedirs(self.directory, 0o700, exist_ok=True)
            with open(f"{self.directory}/{name}.{os.getpid()}", "w", encoding="utf-8") as f:
                json.dump({"reason": reason[:2000]}, f)
            os.rename(f.name, f"{self.directory}/{name}")
        except OSError as e:
            raise HostError(f"can't write to {self.directory}: {errno_text(e)}") from e


def _is_still(path: str, fd: int) -> bool:
    """Whoever gave a lock back took its file away: that of somebody who opened it before is worth nothing."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _remove_folder(path: str) -> None:
    """With all that is in it, if it is there."""
    if os.path.isdir(path):
        import shutil  # 20 ms that a create with a template does not need

        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
