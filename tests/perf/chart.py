"""Stacked horizontal bars as SVG, without a library: phases of a start, memory of a pod. Pure."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

Bar = tuple[str, Sequence[tuple[str, float]]]
"""A label, and segments (name, length) from the left."""

_COLOURS = (
    "#4c78a8",
    "#f58518",
    "#54a24b",
    "#e45756",
    "#72b7b2",
    "#eeca3b",
    "#b279a2",
    "#9d755d",
    "#bab0ac",
    "#2f4b7c",
)
_LEFT, _WIDTH, _ROW, _TOP = 170, 620, 34, 46


def stacked_bars(title: str, unit: str, bars: Sequence[Bar]) -> str:
    """An SVG document. Segments of the same name have the same colour, which the legend below explains."""
    longest = max((sum(value for _, value in segments) for _, segments in bars), default=0.0) or 1.0
    names = list(dict.fromkeys(name for _, segments in bars for name, _ in segments))
    colour = {name: _COLOURS[n % len(_COLOURS)] for n, name in enumerate(names)}
    bottom = _TOP + _ROW * len(bars) + 10
    height = bottom + 20 * ((len(names) + 3) // 4) + 14
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 110}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="12" y="24" font-size="16">{escape(title)}</text>',
    ]
    for n, (label, segments) in enumerate(bars):
        lines += _bar(label, segments, _TOP + n * _ROW, _WIDTH / longest, unit, colour)
    for n, name in enumerate(names):
        x, y = 12 + (n % 4) * 215, bottom + 20 * (n // 4)
        lines.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour[name]}"/>')
        lines.append(f'<text x="{x + 18}" y="{y + 11}">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _bar(
    label: str, segments: Sequence[tuple[str, float]], y: int, scale: float, unit: str, colour: dict[str, str]
) -> list[str]:
    lines = [f'<text x="{_LEFT - 10}" y="{y + 18}" text-anchor="end">{escape(label)}</text>']
    x = float(_LEFT)
    for name, value in segments:
        width = value * scale
        tip = f"<title>{escape(name)}: {value:.3f} {escape(unit)}</title>"
        lines.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="24" fill="{colour[name]}">{tip}</rect>')
        x += width
    total = sum(value for _, value in segments)
    lines.append(f'<text x="{x + 6:.1f}" y="{y + 18}">{total:.2f} {escape(unit)}</text>')
    return lines
