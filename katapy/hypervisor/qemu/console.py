"""What guest and QEMU say: bounded in memory and on disk, and made safe to quote. Runs in the supervisor.

The guest decides how much there is and what is in it, so nothing here grows with it and nothing is passed on raw.
"""

import os
import re

_KEPT = 64 * 1024
_FILE_LIMIT = 1024 * 1024
_QUOTED_LINE = 400

_KERNEL_DUMP = re.compile(
    r"\[ *\d+\.\d+\](?:  | [A-Z0-9]{2,6}: | Code: | Call Trace:| Modules linked in:| Hardware name:)"
)
"""Registers and stack of an oops: forty lines that push out the one that tells what happened. The file keeps them."""

_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")


class OutputLog:
    """The last 64 KiB of a stream in memory; with `path`, at most 1 MiB in that file and as much in `<path>.1`."""

    def __init__(self, path: str | None = None) -> None:
        self._kept = bytearray()
        self._path = path
        self._fd: int | None = None
        self._size = 0

    def feed(self, data: bytes) -> None:
        """A file that can't be written is given up, which the log then says: a full disk must not end a machine."""
        self._kept += data
        if self._path is not None:
            try:
                self._write(data, self._path)
            except OSError as e:
                self._kept += f"\nkatapy: can't write {self._path}: {e.strerror}\n".encode()
                self._path = None
        if len(self._kept) > 2 * _KEPT:
            del self._kept[:-_KEPT]

    def lines(self, count: int) -> list[str]:
        """The last `count` lines that hold something, without control characters."""
        return safe_lines(bytes(self._kept[-_KEPT:]), count)

    def move(self, path: str) -> None:
        """Another file from now on."""
        self.close()
        self._path = path

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write(self, data: bytes, path: str) -> None:
        if self._fd is not None and self._size + len(data) > _FILE_LIMIT:
            self.close()
            os.rename(path, f"{path}.1")
        if self._fd is None:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            self._size = 0
        self._size += os.write(self._fd, data)


def safe_lines(data: bytes, count: int) -> list[str]:
    """The last lines of terminal output as plain text: no escapes, no control characters, 400 characters at most."""
    text = _ESCAPES.sub(b"", data).decode("utf-8", "replace")
    plain = ("".join(filter(str.isprintable, line)).rstrip() for line in re.split(r"[\r\n]+", text))
    return [line[:_QUOTED_LINE] for line in plain if line and not _KERNEL_DUMP.match(line)][-count:]
