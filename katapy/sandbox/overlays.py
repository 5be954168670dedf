"""Mounts of type overlay, as a spec has them. Pure; runs in the CLI."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from katapy.errors import SpecError, Unsupported
from katapy.storage.overlay import Overlay

MAX_LOWER = 12
"""The kernel takes 255 bytes for all of them."""
_SEPARATOR = re.compile(r"(?<!\\):")
_DIRECTORIES = ("lowerdir", "upperdir", "workdir")
# fmt: off
_FLAGS = frozenset({
    "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync", "atime", "noatime",
    "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "symfollow", "nosymfollow",
    "defaults",
}).union(prefix + kind for prefix in ("", "r") for kind in ("private", "shared", "slave", "unbindable"))
# fmt: on
"""Options of any mount. What is none of them is the file system's."""


def is_overlay(mount: Mapping[str, Any]) -> bool:
    return mount.get("type") == "overlay" and {"bind", "rbind"}.isdisjoint(mount.get("options") or ())


def flags(options: Sequence[str]) -> list[str]:
    """What is left to the bind of the guest."""
    return [option for option in options if option in _FLAGS]


def read_overlay(mount: Mapping[str, Any], bundle: str) -> Overlay:
    """Raises SpecError, Unsupported."""
    to = str(mount["destination"])[:200]
    own = [option for option in mount.get("options") or [] if option not in _FLAGS]
    given = {key: value for key, _, value in (option.partition("=") for option in own)}
    lower = [_path(part, bundle) for part in _SEPARATOR.split(given.get("lowerdir") or "") if part]
    if not lower:
        raise SpecError(f"mount of an overlay to {to}: there is no lowerdir in its options")
    if len(lower) > MAX_LOWER:
        raise Unsupported(f"mount of an overlay to {to}: {len(lower)} lower directories, {MAX_LOWER} are supported")
    upper, work = (_path(given[key], bundle) if given.get(key) else "" for key in _DIRECTORIES[1:])
    rest = tuple(option for option in own if option.partition("=")[0] not in _DIRECTORIES)
    return Overlay(tuple(lower), upper, work, rest)


def _path(text: str, bundle: str) -> str:
    return os.path.normpath(os.path.join(bundle, text.replace("\\:", ":")))
