"""Texts from a guest made fit for an error line or a log: one line, printable, bounded. Pure; supervisor."""

MAX_TEXT = 2048


def printable(text: str, limit: int = MAX_TEXT) -> str:
    """`text` on one line, control characters as blanks, at most `limit` characters."""
    cut = text if len(text) <= limit else text[:limit] + "..."
    return "".join(c if c.isprintable() else " " for c in cut).strip()
