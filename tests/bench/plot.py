"""Line charts as SVG: panels side by side, one legend, and what strictly linear growth would be."""

from __future__ import annotations

import math
from typing import Iterator, List, Mapping, NamedTuple, Sequence, Tuple
from xml.sax.saxutils import escape

Points = Sequence[Tuple[float, float]]

_WIDTH, _HEIGHT = 460, 330
_LEFT, _TOP, _RIGHT, _BOTTOM = 62, 40, 44, 70
_ROW = 20
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # for all eyes
_TICKS = 5


class Panel(NamedTuple):
    """One chart: lines by name, x and y ascending from 0; `unit` is that of y."""

    title: str
    unit: str
    lines: Mapping[str, Points]


def svg(panels: Sequence[Panel], x_label: str) -> str:
    """All panels in one picture. A line's name has one colour everywhere.

    The dashed line of a colour goes from 0 through the first point of its line.
    """
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}
    width, height = _WIDTH * len(panels), _HEIGHT + _ROW * (len(names) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for index, panel in enumerate(panels):
        drawn = _panel(panel, x_label, colours)
        parts += [f'<g transform="translate({index * _WIDTH} 0)">', *drawn, "</g>"]
    return "\n".join([*parts, *_legend(colours), "</svg>", ""])


def _panel(panel: Panel, x_label: str, colours: Mapping[str, str]) -> Iterator[str]:
    most_x = max(x for points in panel.lines.values() for x, _ in points)
    most_y = max(max(y, _linear(points, x)) for points in panel.lines.values() for x, y in points)
    x_ticks, y_ticks = _ticks(most_x), _ticks(most_y)
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(x: float) -> float:
        return _LEFT + plot_width * x / x_ticks[-1]

    def down(y: float) -> float:
        return _TOP + plot_height * (1 - y / y_ticks[-1])

    yield _text(_LEFT, 22, f"{panel.title}, {panel.unit}", 'font-weight="bold"')
    for y in y_ticks:
        yield _line([(_LEFT, down(y)), (_LEFT + plot_width, down(y))], "#ddd", 1)
        yield _text(_LEFT - 8, down(y) + 4, f"{y:,g}", 'text-anchor="end"')
    for x in x_ticks:
        yield _line([(across(x), down(0)), (across(x), down(0) + 5)], "#333", 1)
        yield _text(across(x), down(0) + 19, f"{x:,.0f}", 'text-anchor="middle"')
    yield _line([(_LEFT, _TOP), (_LEFT, down(0)), (_LEFT + plot_width, down(0))], "#333", 1)
    yield _text(_LEFT + plot_width / 2, down(0) + 38, x_label, 'text-anchor="middle"')
    for name, points in panel.lines.items():
        ends = [(0.0, 0.0), (points[-1][0], _linear(points, points[-1][0]))]
        yield _line([(across(x), down(y)) for x, y in ends], colours[name], 1, dashed=True)
        spots = [(across(x), down(y)) for x, y in points]
        yield _line(spots, colours[name], 2)
        for x, y in spots:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colours[name]}"/>'


def _legend(colours: Mapping[str, str]) -> Iterator[str]:
    for row, (name, colour) in enumerate(colours.items()):
        y = _HEIGHT + _ROW * row
        yield _line([(_LEFT, y), (_LEFT + 28, y)], colour, 2)
        yield f'<circle cx="{_LEFT + 14}" cy="{y}" r="3.5" fill="{colour}"/>'
        yield _text(_LEFT + 38, y + 4, name)
    y = _HEIGHT + _ROW * len(colours)
    yield _line([(_LEFT, y), (_LEFT + 28, y)], "#666", 1, dashed=True)
    yield _text(_LEFT + 38, y + 4, "linear through the first point")


def _linear(points: Points, x: float) -> float:
    """What the line would be at `x` if it grew in proportion from its first point."""
    return points[0][1] * x / points[0][0]


def _ticks(most: float) -> List[float]:
    """Round numbers from 0 to the first that is not below `most`."""
    rough = most / _TICKS
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough)
    return [step * n for n in range(math.ceil(most / step) + 1)]


def _line(points: Points, colour: str, width: int, *, dashed: bool = False) -> str:
    where = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    look = f'fill="none" stroke="{colour}" stroke-width="{width}"{dashes}'
    return f'<polyline points="{where}" {look}/>'


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'
