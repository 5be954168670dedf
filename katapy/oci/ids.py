"""The rule for container ids, as runc has it: an id becomes a folder's name: no `re`, hot verbs use it."""

from katapy.errors import UsageError

MAX_ID = 1024
_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-")


def check_id(container_id: str) -> str:
    """Returns `container_id`. Raises UsageError, with runc's words, if it can't be one."""
    if not container_id:
        raise UsageError("container id cannot be empty")
    allowed = _ALLOWED.issuperset(container_id) and container_id[0] != "-"  # stricter than runc: it would be a flag
    if container_id in (".", "..") or len(container_id) > MAX_ID or not allowed:
        raise UsageError("invalid container ID format")
    return container_id
