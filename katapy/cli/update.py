"""`katapy update`: other limits for a living container, from flags or from a resources object."""

import os
import sys
from typing import Any

from katapy.cli.parse import Args
from katapy.cli.supervised import ask
from katapy.errors import KatapyError, SpecError, UsageError
from katapy.oci import spec
from katapy.oci.sizes import parse_size
from katapy.sandbox import store


def _number(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise UsageError(f'"{text}" is not a number')
    return int(text)


def _text(text: str) -> str:
    return text


FLAGS = {
    "blkio-weight": ("blockIO", "weight", _number),
    "cpu-period": ("cpu", "period", _number),
    "cpu-quota": ("cpu", "quota", _number),
    "cpu-burst": ("cpu", "burst", _number),
    "cpu-share": ("cpu", "shares", _number),
    "cpu-rt-period": ("cpu", "realtimePeriod", _number),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", _number),
    "cpuset-cpus": ("cpu", "cpus", _text),
    "cpuset-mems": ("cpu", "mems", _text),
    "cpu-idle": ("cpu", "idle", _number),
    "memory": ("memory", "limit", parse_size),
    "memory-reservation": ("memory", "reservation", parse_size),
    "memory-swap": ("memory", "swap", parse_size),
    "pids-limit": ("pids", "limit", _number),
}
"""Flag -> where its value goes in the resources object, and how it is read."""
UPDATE_S = 90.0
"""The machine may have to grow first."""
_ZERO_IS_UNCHANGED = frozenset(("blkio-weight", "cpu-period", "cpu-rt-period", "pids-limit"))


def run(args: Args) -> int:
    state = store.live_status(args.root, args.id)
    resources = _read(args.resources) if args.resources else from_flags(args)
    spec.convert_resources(resources)
    ask(args.root, state, "update", {"resources": resources}, "container not running", UPDATE_S)
    return 0


def from_flags(args: Args) -> dict[str, Any]:
    """The resources object for the flags that were given. Raises UsageError: `invalid value for X: reason`."""
    resources: dict[str, Any] = {}
    for flag, (section, key, read) in FLAGS.items():
        text = getattr(args, flag.replace("-", "_"))
        if flag not in args.given or text == "":
            continue
        try:
            value = read(text)
        except KatapyError as e:
            raise UsageError(f"invalid value for {flag}: {e}") from e
        if value == 0 and flag in _ZERO_IS_UNCHANGED:
            continue
        resources.setdefault(section, {})[key] = value
    return resources


def _read(path: str) -> dict[str, Any]:
    if path == "-":
        return spec.decode(sys.stdin.buffer.read(spec.MAX_FILE), "standard input")
    try:
        return spec.decode(spec.read_file(path), path)
    except FileNotFoundError as e:
        raise SpecError(f"open {os.path.abspath(path)}: no such file or directory") from e
