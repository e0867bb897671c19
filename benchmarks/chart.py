"""The results as an SVG that is readable on light and on dark pages: how many times better the gateway is, and how
figures grow (`curves`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from benchmarks import curves
from benchmarks.figures import Figure
from benchmarks.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.figures import Results

SHOWN = {"fan-out", "pairs", "busy-rooms", "connections", "pauses", "two-nodes"}
LEFT_OUT = {
    Figure.DELIVERIES_PER_SECOND,
    Figure.LATENCY_P50,
    Figure.VALKEY_PER_MESSAGE,  # is in `MESSAGES_PER_CPU_OF_ALL`
    Figure.SCRIPTS_PER_MESSAGE,
}
COLOURS = {
    "gateway": "ours",
    "gateway, everysec": "ours",
    "Node": "node",
    "stock": "stock",
    "send()": "send",
    "redis": "node",
    "sharded": "stock",
    "streams": "send",
    "manager": "ink",
}

WIDTH, LABELS, VALUES = 900, 390, 50
BAR, GAP, BETWEEN, TOP, BOTTOM = 11, 2, 12, 56, 30

STYLE = """
  svg { --ink: #1f2328; --faint: #d1d9e0; --ours: #bc4c00; --node: #1a7f37; --stock: #0969da; --send: #8250df; }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e6edf3; --faint: #3d444d; --ours: #f0883e; --node: #3fb950; --stock: #4493f8; --send: #ab7df8; }
  }
  text { font: 12px system-ui, sans-serif; fill: var(--ink); }
  .title { font-size: 14px; font-weight: 600; }
  .small { font-size: 10px; }
  .grid { stroke: var(--faint); }
  .one, .range { stroke: var(--ink); }
  .ours { fill: var(--ours); stroke: var(--ours); } .node { fill: var(--node); stroke: var(--node); }
  .stock { fill: var(--stock); stroke: var(--stock); } .send { fill: var(--send); stroke: var(--send); }
  .ink { fill: var(--ink); stroke: var(--ink); }
  rect { stroke: none; } .curve { fill: none; stroke-width: 2; }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """How many times better the gateway is than ``peer``: the median, the worst and the best round."""

    peer: str
    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Group:
    label: str
    bars: tuple[Bar, ...]


def groups(results: Results) -> Iterator[Group]:
    """What is drawn, from top to bottom."""
    for scenario in SCENARIOS:
        if scenario.name not in SHOWN:
            continue
        ours, *others = (kind.name for kind in scenario.servers)
        for key in results.keys(scenario.name):
            if key.figure in LEFT_OUT:
                continue
            bars = []
            for other in others:
                ratio = results.ratio(key, ours, other)
                if ratio is None or min(ratio.per_round) <= 0:
                    continue
                better = [one if key.figure.more_is_better else 1 / one for one in ratio.per_round]
                median = ratio.median if key.figure.more_is_better else 1 / ratio.median
                bars.append(Bar(other, median, min(better), max(better)))
            if bars:
                yield Group(f"{key.case}: {key.figure.label}", tuple(bars))


def svg(results: Results) -> str:
    """The chart. Its axis is logarithmic: half as good is as far from 1 as twice as good."""
    drawn = list(groups(results))
    values = [value for group in drawn for bar in group.bars for value in (bar.low, bar.high)] or [1]
    first, last = math.floor(math.log2(min([*values, 0.5]))), math.ceil(math.log2(max([*values, 2])))

    def x(value: float) -> float:
        return LABELS + (WIDTH - LABELS - VALUES) * (math.log2(value) - first) / (last - first)

    foot = TOP + sum(BETWEEN + len(group.bars) * (BAR + GAP) for group in drawn)
    height = foot + BOTTOM + curves.height(results)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">',
        f"<title>How many times better the gateway is than its peers</title><style>{STYLE}</style>",
        '<text class="title" x="8" y="20">How many times better the gateway is than …</text>',
        *_legend(drawn, grows=curves.height(results) > 0),
    ]
    for power in range(first, last + 1):
        at, label = x(2.0**power), f"{2.0**power:g}"
        style = "one" if power == 0 else "grid"
        parts.append(f'<line class="{style}" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{foot}"/>')
        parts.append(f'<text class="small" text-anchor="middle" x="{at:.1f}" y="{foot + 14}">{label} ×</text>')
    y = TOP + BETWEEN / 2
    for group in drawn:
        tall = len(group.bars) * (BAR + GAP)
        parts.append(
            f'<text text-anchor="end" x="{LABELS - 8}" y="{y + tall / 2 + 3:.1f}">{escape(group.label)}</text>'
        )
        for bar in group.bars:
            parts += _bar(bar, y, x)
            y += BAR + GAP
        y += BETWEEN
    parts += curves.panels(results, foot + BOTTOM, WIDTH, COLOURS)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(drawn: list[Group], *, grows: bool) -> Iterator[str]:
    at = LABELS
    peers = dict.fromkeys(bar.peer for group in drawn for bar in group.bars)
    for peer in peers | ({"gateway": None} if grows else {}):
        yield f'<rect class="{COLOURS[peer]}" x="{at}" y="34" width="10" height="10"/>'
        label = "gateway, below" if peer == "gateway" else peer
        yield f'<text x="{at + 15}" y="43">{escape(label)}</text>'
        at += 30 + 7 * len(label)


def _bar(bar: Bar, y: float, x: Callable[[float], float]) -> Iterator[str]:
    begin, end = sorted((x(1), x(bar.median)))
    middle = y + BAR / 2
    value = f"{bar.median:.1f}" if bar.median >= 9.95 else f"{bar.median:.2f}"
    long = max(end - begin, 1)
    yield f'<rect class="{COLOURS[bar.peer]}" x="{begin:.1f}" y="{y:.1f}" width="{long:.1f}" height="{BAR}"/>'
    yield f'<line class="range" x1="{x(bar.low):.1f}" x2="{x(bar.high):.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>'
    yield f'<text class="small" x="{max(x(bar.high), x(1)) + 5:.1f}" y="{y + BAR - 2:.1f}">{value}</text>'
