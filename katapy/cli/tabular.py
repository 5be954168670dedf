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


def columns(rows: "Sequence[Sequence[str]]", right: "frozenset[str]") -> str:
    """As ps prints: one space between columns, those named in `right` (by the first row) aligned to the right."""
    clean = [["".join(c if c.isprintable() else "?" for c in cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in clean) for i in range(len(clean[0]) - 1)]
    aligned = [
        [
            cell.rjust(w) if name in right else cell.ljust(w)
            for cell, w, name in zip(row, widths, clean[0], strict=False)
        ]
        for row in clean
    ]
    return "".join(" ".join([*cells, row[-1]]) + "\n" for cells, row in zip(aligned, clean, strict=True))
