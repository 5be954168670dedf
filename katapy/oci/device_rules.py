"""`linux.resources.devices` of the runtime-spec: what a container may do with a device. Pure; runs in the CLI.

Rules are applied one after the other, as runc does; without one nothing is allowed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_ALL = "rwm"
_ANY = (None, -1)


def access(rules: Sequence[Mapping[str, Any]], kind: str, major: int, minor: int) -> str:
    """Of `rwm`, what the rules leave for the device of that type (b or c) and number; empty: nothing."""
    allowed: set[str] = set()
    for rule in rules:
        if rule.get("type") not in (None, "a", kind) or not _matches(rule, major, minor):
            continue
        which = set(rule.get("access") or _ALL)
        allowed = allowed | which if rule.get("allow") else allowed - which
    return "".join(letter for letter in _ALL if letter in allowed)


def names(rules: Sequence[Mapping[str, Any]], kind: str, major: int, minor: int) -> bool:
    """Whether a rule allows this very device, not only all of a kind."""
    return any(rule.get("allow") and is_exactly(rule, kind, major, minor) for rule in rules)


def is_exactly(rule: Mapping[str, Any], kind: str, major: int, minor: int) -> bool:
    return (rule.get("type"), rule.get("major"), rule.get("minor")) == (kind, major, minor)


def _matches(rule: Mapping[str, Any], major: int, minor: int) -> bool:
    if rule.get("type") == "a":  # its numbers mean nothing
        return True
    return rule.get("major") in (*_ANY, major) and rule.get("minor") in (*_ANY, minor)
