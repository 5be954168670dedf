"""Tables for people: columns at least 12 wide, 3 apart, as runc's. Pure."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LEAST = 12
_GAP = 3


def table(rows: "Sequence[Sequence[str]]") -> str:
    """Lines with their newlines. All but the last column are padded; control characters are shown as `?`."""
    clean = [["".join(c if c.isprintable() else "?" for c in cell) for cell in row] for row in rows]
    widths = [max(_LEAST, _GAP + max(len(row[i]) for row in clean)) for i in range(len(clean[0]) - 1)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[-1] + "\n" for row in clean
    )


def columns(rows: "Sequence[Sequence[str]]", right: "Sequence[bool]", least: "Sequence[int]") -> str:
    """As ps prints: one space between columns; of each, whether it is aligned to the right, and how wide it is at
    least."""
    clean = [["".join(c if c.isprintable() else "?" for c in cell) for cell in row] for row in rows]
    widths = [max(width, *(len(row[i]) for row in clean)) for i, width in enumerate(least)]
    if not right[-1]:
        widths[-1] = 0  # no blanks at the end of lines
    return "".join(
        " ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)) + "\n"
        for row in clean
    )
