"""HTML and SVG of a report from plain values; every text is escaped.

A ``Paper`` collects sections. Pictures are inlined as data URIs until ``budget`` bytes are spent; after that an example
is shown by its id. Charts are SVG with a sentence of how to read them. Colours are those of the dashboard (Okabe-Ito),
each with a mark of its own in print.

Inputs → outputs: names, numbers, PNG or WebP bytes → text. Cost: a few microseconds per cell. Limits: no script, no
link, no font from elsewhere; the page's own policy forbids them to the browser too.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

LABEL, PREDICTION, WRONG, DECIDED = "#0072B2", "#E69F00", "#D55E00", "#009E73"
WIDTH, HEIGHT = 480, 210
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1a1c1e;background:#fff;max-width:1040px;margin:2rem auto;
padding:0 1.2rem}
h1{font-size:1.7rem;margin:0}h2{margin:2.2rem 0 .3rem;border-bottom:2px solid #1a1c1e;font-size:1.25rem}
h3{margin:1.2rem 0 .2rem;font-size:1.02rem}p{margin:.35rem 0;max-width:72ch}.note{color:#5f6368;font-size:.88rem}
.warning{border-left:5px solid #D55E00;background:#fdf1e8;padding:.5rem .8rem;margin:.8rem 0}
.say{font-size:1.1rem;font-weight:600}table{border-collapse:collapse;margin:.5rem 0;font-size:.88rem}
td,th{padding:.18rem .6rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:middle;overflow-wrap:anywhere;
max-width:26rem}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.sheet{display:flex;flex-wrap:wrap;gap:8px;margin:.4rem 0}
figure{margin:0;width:92px;font-size:.72rem;break-inside:avoid}
figure img{width:92px;height:92px;object-fit:contain;background:#f2f3f4;image-rendering:auto;display:block}
img.small{image-rendering:pixelated}figcaption{overflow-wrap:anywhere;line-height:1.25}
.pair{display:flex;flex-wrap:wrap;gap:1.5rem}.chart{break-inside:avoid;max-width:480px}svg{max-width:100%;height:auto}
svg text{font:11px system-ui,sans-serif;fill:#333}.slice{break-inside:avoid;margin-bottom:1rem}
nav a{margin-right:.9rem;color:#0072B2}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem .9rem;font-size:.86rem}
dt{color:#5f6368}dd{margin:0;overflow-wrap:anywhere}
@page{margin:14mm}@media print{body{margin:0;max-width:none;font-size:11pt}nav{display:none}h2{break-after:avoid}
h3{break-after:avoid}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}tr{break-inside:avoid}}
"""


def number(value: Any) -> str:
    """At most three significant digits, whole numbers with separators, "–" for none.

    >>> number(1234), number(0.04567), number(None)
    ('1,234', '0.0457', '–')
    """
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "∞" if value == np.inf else "–"
    if float(value) == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def share(value: float | None) -> str:
    """A share as a percentage.

    >>> share(0.0382), share(float("nan"))
    ('3.82 %', '–')
    """
    return "–" if value is None or not np.isfinite(value) else f"{100 * value:.3g} %"


def between(low: float, high: float, show: Callable[[float], str] = share) -> str:
    """An interval in words."""
    return f"{show(low)} to {show(high)}"


class Paper:
    """A report under way: ``picture`` finds the thumbnail of an example, None where it has none."""

    def __init__(self, picture: Callable[[str], bytes | None], budget: int = 6_000_000):
        self._picture, self.left = picture, budget
        self.parts: list[str] = []
        self.headings: list[tuple[str, str]] = []

    def section(self, title: str) -> None:
        name = f"s{len(self.headings) + 1}"
        self.headings.append((name, title))
        self.parts.append(f'<h2 id="{name}">{escape(title)}</h2>')

    def heading(self, text: str) -> None:
        self.parts.append(f"<h3>{escape(text)}</h3>")

    def say(self, text: str, kind: str = "") -> None:
        """A paragraph; kind: note, warning or say."""
        self.parts.append(f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>")

    def facts(self, pairs: Iterable[tuple[str, Any]]) -> None:
        rows = "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>" for key, value in pairs)
        self.parts.append(f"<dl>{rows}</dl>")

    def table(self, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Numbers to the right; ``Raw`` cells (images) as they are."""
        body = ["<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows]
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        self.parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>")

    def image(self, example: str, side: int = 92) -> Raw:
        """The example's picture, or its id where it has none or the budget is spent."""
        data = self._picture(example)
        if data is None or len(data) * 4 // 3 > self.left:
            return Raw(f'<span class="note">{escape(example)}</span>')
        self.left -= len(data) * 4 // 3
        kind = "png" if data[:4] == b"\x89PNG" else "webp" if data[8:12] == b"WEBP" else "jpeg"
        small = ' class="small"' if len(data) < 1500 else ""
        code = base64.b64encode(data).decode()
        return Raw(
            f'<img{small} alt="{escape(example, quote=True)}" style="width:{side}px;height:{side}px" '
            f'src="data:image/{kind};base64,{code}">'
        )

    def sheet(self, items: Iterable[tuple[str, str]]) -> None:
        """A contact sheet of (example_id, caption)."""
        figures = [
            f"<figure>{self.image(name).html}<figcaption>{escape(text)}</figcaption></figure>" for name, text in items
        ]
        self.parts.append(f'<div class="sheet">{"".join(figures)}</div>')

    def chart(self, svg: str, reading: str) -> None:
        self.parts.append(f'<div class="chart">{svg}<p class="note">{escape(reading)}</p></div>')

    def html(self, title: str) -> str:
        """The whole file."""
        links = "".join(f'<a href="#{name}">{escape(text)}</a>' for name, text in self.headings)
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
            f'content="{policy}"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
            f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1><nav>{links}</nav>"
            f"{''.join(self.parts)}</body></html>"
        )


class Raw:
    """HTML that this module made."""

    def __init__(self, html: str):
        self.html = html


def _cell(value: Any) -> str:
    if isinstance(value, Raw):
        return f"<td>{value.html}</td>"
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
        return f'<td class="n">{number(value)}</td>'
    text = "–" if value is None or value is pd.NA else str(value)
    return f"<td>{escape(text)}</td>"


# -- charts -----------------------------------------------------------------------------------------


def rounded(top: float) -> float:
    """The next of 1, 1.2, 1.6, 2, 4, 6, 8 × 10ᵏ: quarters of it are short numbers.

    >>> rounded(0.349), rounded(378)
    (0.4, 400.0)
    """
    power = 10.0 ** np.floor(np.log10(top))
    return float(round(next(step for step in (1, 1.2, 1.6, 2, 4, 6, 8, 10) if step * power >= top * 0.9999) * power, 9))


def _frame(top: float, x_title: str, y_title: str, body: str, ticks: Callable[[float], str]) -> str:
    left, right, above, below = 56, 8, 10, 36
    high = HEIGHT - above - below
    lines = ""
    for part in (0, 0.25, 0.5, 0.75, 1):
        y = above + high * (1 - part)
        lines += (
            f'<line x1="{left}" x2="{WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e3e3"/><text x="{left - 5}" '
            f'y="{y + 4:.1f}" text-anchor="end">{escape(ticks(part * top))}</text>'
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{escape(y_title, quote=True)}">'
        f'{lines}{body}<text x="{(WIDTH + left) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_title)}'
        f'</text><text x="12" y="{HEIGHT / 2:.0f}" transform="rotate(-90 12 {HEIGHT / 2:.0f})" '
        f'text-anchor="middle">{escape(y_title)}</text></svg>'
    )


def _places(top: float) -> tuple[Callable[[float], float], Callable[[float], float]]:
    return (lambda x: 56 + (WIDTH - 64) * x), (lambda y: 10 + (HEIGHT - 46) * (1 - min(max(y, 0) / top, 1)))


def bars(frame: pd.DataFrame, x: str, value: str, x_title: str, y_title: str, base: float | None = None) -> str:
    """Shares per group with their intervals (columns low, high), diamonds for a column corrected; ``base``: a dashed
    line."""
    top = rounded(max(float(np.nanmax([*frame["high"].fillna(0), 0.01])), base or 0))
    across, up = _places(top)
    body, n = "", max(len(frame), 1)
    for at, row in enumerate(frame.itertuples()):
        height, left, wide = getattr(row, value), across((at + 0.15) / n), (WIDTH - 64) * 0.7 / n
        middle, under = left + wide / 2, escape(str(getattr(row, x)))
        body += f'<text x="{middle:.1f}" y="{HEIGHT - 22}" text-anchor="middle">{under}</text>'
        if np.isfinite(height):
            body += (
                f'<rect x="{left:.1f}" y="{up(height):.1f}" width="{wide:.1f}" '
                f'height="{max(up(0) - up(height), 0):.1f}" fill="{LABEL}" fill-opacity=".75"/><line '
                f'x1="{middle:.1f}" x2="{middle:.1f}" y1="{up(row.low):.1f}" y2="{up(row.high):.1f}" stroke="#1a1c1e" '
                'stroke-width="1.4"/>'
            )
        other = getattr(row, "corrected", np.nan)
        if np.isfinite(other):
            middle = left + wide / 2
            body += (
                f'<path d="M{middle:.1f} {up(other) - 6:.1f}l6 6l-6 6l-6 -6z" fill="#fff" stroke="{DECIDED}" '
                f'stroke-width="2"><title>on corrected labels {share(other)}</title></path>'
            )
    if base is not None and np.isfinite(base):
        body += (
            f'<line x1="56" x2="{WIDTH - 8}" y1="{up(base):.1f}" y2="{up(base):.1f}" stroke="{WRONG}" '
            f'stroke-dasharray="6 4" stroke-width="1.6"/>'
        )
    return _frame(top, x_title, y_title, body, share)


def stopping(history: pd.DataFrame, goal: float) -> str:
    """Bounds on the wrong labels that remain, those found, and the goal, along the decisions."""
    seen = history[history["controls"] > 0]
    highest = seen["high"].max() if len(seen) else 1
    top = rounded(float(max(min(highest, 6 * max(goal, history["found"].max(), 1)), goal, 4)))
    across, up = _places(top)
    end = max(int(history["decisions"].max()), 1)

    def line(column: str, rows: pd.DataFrame) -> str:
        return " ".join(
            f"{across(x / end):.1f},{up(y):.1f}" for x, y in zip(rows["decisions"], rows[column], strict=True)
        )

    back = " ".join(reversed(line("low", seen).split()))
    body = (
        f'<polygon points="{line("high", seen)} {back}" fill="{LABEL}" fill-opacity=".16"/><polyline '
        f'points="{line("high", seen)}" fill="none" stroke="{LABEL}" stroke-width="2.2"/><polyline '
        f'points="{line("found", history)}" fill="none" stroke="{DECIDED}" stroke-width="2" stroke-dasharray="2 '
        f'3"/><line x1="56" x2="{WIDTH - 8}" y1="{up(goal):.1f}" y2="{up(goal):.1f}" stroke="{WRONG}" '
        f'stroke-dasharray="6 4" stroke-width="1.6"/><text x="{WIDTH - 10}" y="{up(goal) - 4:.1f}" '
        'text-anchor="end">goal</text>'
    )
    return _frame(top, f"decisions, 0 to {end:,}", "wrong labels", body, lambda y: number(round(y)))


def histogram(counts: Sequence[tuple[str, int, int]]) -> str:
    """Labels and predictions of a slice: (class, with this label, with this prediction)."""
    most = max((max(a, b) for _, a, b in counts), default=1) or 1
    height, body = 17 * len(counts) + 6, ""
    for at, (name, label, prediction) in enumerate(counts):
        y = 17 * at + 3
        short = name if len(name) <= 14 else name[:13] + "…"
        body += (
            f'<text x="84" y="{y + 11}" text-anchor="end">{escape(short)}</text><rect x="90" y="{y}" '
            f'width="{150 * label / most:.1f}" height="6" fill="{LABEL}"/><rect x="90" y="{y + 7}" '
            f'width="{150 * prediction / most:.1f}" height="6" fill="{PREDICTION}"/><text x="246" '
            f'y="{y + 11}">{label} / {prediction}</text>'
        )
    return f'<svg viewBox="0 0 300 {height}" width="300" role="img" aria-label="labels and predictions">{body}</svg>'
