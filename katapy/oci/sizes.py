"""Sizes and durations as they are written on runc's command line. Pure; no `re`."""

from katapy.errors import UsageError

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_MAX = 2**63 - 1


def parse_size(text: str) -> int:
    """Bytes of `512m`, `1.5g`, `2GiB`, `4096`; -1 (no limit) stays -1. Units are powers of 1024. Raises UsageError."""
    if text == "-1":
        return -1
    number, unit = _split(text)
    unit = unit.strip().lower().removesuffix("b").removesuffix("i")
    if unit not in _UNITS or not _is_decimal(number):
        raise UsageError(f"invalid size: '{text}'")
    size = int(float(number) * 1024 ** _UNITS[unit]) if "." in number else int(number) * 1024 ** _UNITS[unit]
    if size > _MAX:
        raise UsageError(f"size '{text}' is out of range")
    return size


def parse_duration(text: str) -> float:
    """Seconds of `5s`, `100ms`, `1m30s`, `0`. Raises UsageError."""
    if text == "0":
        return 0.0
    seconds, rest = 0.0, text
    while rest:
        number, tail = _split(rest)
        unit = tail[: next((i for i, c in enumerate(tail) if c.isdigit() or c == "."), len(tail))]
        if unit not in _SECONDS or not _is_decimal(number):
            raise UsageError(f"invalid duration '{text}'")
        seconds += float(number) * _SECONDS[unit]
        rest = tail[len(unit) :]
    if not text:
        raise UsageError("invalid duration ''")
    return seconds


def _split(text: str) -> tuple[str, str]:
    end = next((i for i, c in enumerate(text) if c not in "0123456789."), len(text))
    return text[:end], text[end:]


def _is_decimal(text: str) -> bool:
    whole, dot, fraction = text.partition(".")
    return 0 < len(text) <= 20 and "." not in fraction and whole.isdigit() and (not dot or fraction.isdigit())
