"""How figures grow with rooms and crowds: the lower part of the chart, a panel for each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from benchmarks.figures import Figure
from benchmarks.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Key, Results

PANELS = (
    ("growing-rooms", Figure.DELIVERIES_PER_CPU, "fan-out by members: deliveries / CPU s"),
    ("growing-crowd", Figure.MESSAGES_PER_CPU, "200 rooms of two by connections: messages / CPU s"),
    ("growing-crowd", Figure.HANDSHAKES_PER_CPU, "by connections: handshakes / CPU s"),
    ("growing-crowd", Figure.MEMORY, "by connections: KiB of memory for each further one"),
)
COLUMNS = 2
LEFT, TALL, ABOVE, BELOW = 56, 130, 34, 30


def height(results: Results) -> int:
    rows = -(-len(list(_shown(results))) // COLUMNS)
    return rows * (ABOVE + TALL + BELOW)


def panels(results: Results, top: float, width: float, colours: dict[str, str]) -> Iterator[str]:
    """SVG elements, from ``top`` downwards. ``colours``: the class of each server's line."""
    wide = width / COLUMNS
    for number, (title, keys) in enumerate(_shown(results)):
        x, y = wide * (number % COLUMNS) + LEFT, top + (ABOVE + TALL + BELOW) * (number // COLUMNS) + ABOVE
        yield f'<text x="{x - LEFT + 8:.1f}" y="{y - 14:.1f}">{escape(title)}</text>'
        yield from _panel(results, keys, x, y, wide - LEFT - 24, colours)


def _shown(results: Results) -> Iterator[tuple[str, list[Key]]]:
    """Titles, and what grows, from the smallest on."""
    for scenario, figure, title in PANELS:
        keys = [key for key in results.keys(scenario) if key.figure is figure]
        if len(keys) > 1:
            yield title, keys


def _panel(
    results: Results, keys: list[Key], x: float, y: float, wide: float, colours: dict[str, str]
) -> Iterator[str]:
    (servers,) = (scenario.servers for scenario in SCENARIOS if scenario.name == keys[0].scenario)
    lines = {kind.name: [results.median(key, kind.name) for key in keys] for kind in servers}
    most = max((value for line in lines.values() for value in line if value is not None), default=1.0) or 1.0
    step = wide / (len(keys) - 1)
    for share in (0, 0.5, 1):
        at = y + TALL * (1 - share)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x + wide:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text class="small" text-anchor="end" x="{x - 6:.1f}" y="{at + 3:.1f}">{share * most:,.0f}</text>'
    for index, key in enumerate(keys):
        label = f'x="{x + index * step:.1f}" y="{y + TALL + 14:.1f}">{_size(key)}</text>'
        yield f'<text class="small" text-anchor="middle" {label}'
    for name, values in lines.items():
        points = [
            f"{x + index * step:.1f},{y + TALL * (1 - value / most):.1f}"
            for index, value in enumerate(values)
            if value is not None
        ]
        yield f'<polyline class="curve {colours[name]}" points="{" ".join(points)}"/>'


def _size(key: Key) -> str:
    """The number in a case, such as that of the members."""
    found = re.search(r"[\d,]*\d", key.case)
    return key.case if found is None else found[0]
