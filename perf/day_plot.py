"""Curves over a day as an SVG picture: one panel a curve, each with its own scale. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, PANEL, LEFT, TOP, GAP = 860, 120, 60, 40, 34  # pixels
COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea")


@dataclass(frozen=True, slots=True)
class Curve:
    name: str
    values: Sequence[float]  # evenly over the day


def day_plot(title: str, curves: Sequence[Curve]) -> str:
    height = TOP + len(curves) * (PANEL + GAP)
    panels = [_panel(curve, TOP + number * (PANEL + GAP), COLOURS[number % 4]) for number, curve in enumerate(curves)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="11">'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
        f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}</text>{"".join(panels)}</svg>\n'
    )


def _panel(curve: Curve, top: int, colour: str) -> str:
    most = max(*curve.values, 1e-9)
    width = WIDTH - LEFT - 20
    last = max(len(curve.values) - 1, 1)
    points = " ".join(
        f"{LEFT + width * at / last:.1f},{top + PANEL * (1 - value / most):.1f}"
        for at, value in enumerate(curve.values)
    )
    base = top + PANEL
    hours = "".join(
        f'<text x="{LEFT + width * hour / 24:.0f}" y="{base + 14}" text-anchor="middle" fill="#555">{hour}:00</text>'
        for hour in range(0, 25, 4)
    )
    return (
        f'<line x1="{LEFT}" y1="{base}" x2="{WIDTH - 20}" y2="{base}" stroke="#999"/>'
        f'<text x="{LEFT - 6}" y="{top + 10}" text-anchor="end" fill="#555">{most:.4g}</text>'
        f'<text x="{LEFT - 6}" y="{base}" text-anchor="end" fill="#555">0</text>'
        f'<text x="{LEFT + 6}" y="{top + 10}" fill="{colour}">{escape(curve.name)}</text>'
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>{hours}'
    )
