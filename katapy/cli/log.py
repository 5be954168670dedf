"""Log records as runc writes them: engines read the last JSON object of the file that `--log` names.

Text on standard error by default; with --log FILE the records are appended to it and the bare message of an error goes
to standard error as well. Not `logging`: that costs two interpreter starts, and a verb writes one record at most.
"""

import os
import time

from katapy import quickjson
from katapy.errors import HostError, UsageError, errno_text

FORMATS = ("text", "json")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/@^+")


class Log:
    """Opened before anything else is done, so that a log that can't be written is an error at once."""

    def __init__(self) -> None:
        self._fd = 2
        self._json = False
        self.debugging = False

    def open(self, path: str, format: str, debug: bool) -> None:
        """Raises UsageError (format), HostError (file)."""
        self.debugging = debug
        if format not in FORMATS:
            raise UsageError(f"invalid log-format: {format}")
        self._json = format == "json"
        if path:
            try:
                self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as e:
                raise HostError(f"open {path}: {errno_text(e)}") from e

    def error(self, message: str) -> None:
        self._write("error", message)
        if self._fd != 2:
            _write_all(2, message + "\n")

    def warning(self, message: str) -> None:
        self._write("warning", message)

    def debug(self, message: str) -> None:
        if self.debugging:
            self._write("debug", message)

    def _write(self, level: str, message: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._json:
            line = quickjson.dumps({"level": level, "msg": message, "time": now})
        else:
            line = f'time="{now}" level={level} msg={_quote(message)}'
        _write_all(self._fd, line + "\n")


def _quote(message: str) -> str:
    return message if message and _PLAIN.issuperset(message) else quickjson.dumps(message, ascii_only=False)


def _write_all(fd: int, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:  # nobody can be told that nobody can be told
        pass


def write_output(text: str) -> None:
    """Writes a verb's answer to standard output, whole. Raises HostError if the reader is gone."""
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError as e:
        raise HostError(f"write to standard output: {errno_text(e)}") from e
