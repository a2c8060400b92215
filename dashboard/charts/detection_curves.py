"""Curves of what scores find: recall against the share reviewed, and ROC curves.

The rules of ``dashboard.charts.common`` hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.charts.common import Chart, apply_layout
from dashboard.style.colours import NEUTRAL, SERIES
from dashboard.style.formatting import escaped, percent

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


LINE_COLOURS = SERIES[:6]


def _line(at: int, width: float) -> dict[str, Any]:
    """Returns the line of the curve at this position: colours first, then dashes."""
    dash = DASHES[at // len(LINE_COLOURS) % len(DASHES)]
    return {"width": width, "color": LINE_COLOURS[at % len(LINE_COLOURS)], "dash": dash}


def _percent_axes(figure: go.Figure, height: int, x: str, y: str) -> None:
    apply_layout(figure, height, showlegend=True)
    figure.update_layout(legend={"orientation": "v", "x": 1.01, "y": 1, "yanchor": "top"})
    figure.update_xaxes(title=x, range=[0, 100])
    figure.update_yaxes(title=y, range=[0, 102])


def recall_curves(curves: Mapping[str, pd.DataFrame], names: Mapping[str, str]) -> Chart:
    """Returns the chart of recall against the share reviewed. ``curves``: address → share, recall, chance, perfect;
    the best first."""
    figure = go.Figure()
    first = next(iter(curves.values()))
    for title, column, dash in (("perfect", "perfect", "dot"), ("chance", "chance", "dash")):
        figure.add_scatter(
            x=100 * first["share"],
            y=100 * first[column],
            mode="lines",
            name=title,
            hoverinfo="skip",
            line={"color": NEUTRAL.colour, "dash": dash, "width": 1.5},
        )
    for at, (address, curve) in enumerate(curves.items()):
        figure.add_scatter(
            x=100 * curve["share"],
            y=100 * curve["recall"],
            mode="lines",
            name=escaped(names[address], 30),
            line=_line(at, 2.5),
            hovertext=[
                f"{escaped(names[address])}: {percent(row.recall)} of the wrong labels in the first "
                f"{percent(row.share)}"
                for row in curve.itertuples()
            ],
            hoverinfo="text",
        )
    _percent_axes(figure, 420, "share reviewed, %", "wrong labels found, %")
    return Chart(
        figure,
        "Each line is the share of wrong labels found when the queue is reviewed from the top. A steeper line needs "
        "fewer reviews. The dashed line is a random order, the dotted line is the best possible order.",
    )


def _draw_chance(figure: go.Figure) -> None:
    """Adds the diagonal of a random score."""
    figure.add_scatter(
        x=[0, 100],
        y=[0, 100],
        mode="lines",
        name="chance",
        hoverinfo="skip",
        line={"color": NEUTRAL.colour, "dash": "dash", "width": 1.5},
    )


def roc_runs(curves: pd.DataFrame, runs: Sequence[str], areas: Sequence[float]) -> Chart:
    """Returns the ROC curves of every run and their mean. ``curves``: false_positive, 0 … r−1, mean, deviation."""
    figure = go.Figure()
    x = 100 * curves["false_positive"]
    _draw_chance(figure)
    for at, (run, area) in enumerate(zip(runs, areas, strict=True)):
        figure.add_scatter(
            x=x,
            y=100 * curves[at],
            mode="lines",
            name=f"{escaped(run, 24)}, AUROC {area:.3f}",
            hoverinfo="name",
            line=_line(at, 1.2),
        )
    if len(runs) > 1:
        figure.add_scatter(
            x=x,
            y=100 * curves["mean"],
            mode="lines",
            name=f"mean, AUROC {np.nanmean(areas):.3f} ± {np.nanstd(areas, ddof=1):.3f}",
            line={"width": 3, "color": NEUTRAL.colour},
            hoverinfo="name",
        )
    _percent_axes(figure, 380, "right labels reviewed as well (false-positive rate), %", "wrong labels found, %")
    return Chart(
        figure,
        "Each thin line is the ROC curve of one run. The thick line is their mean at equal false-positive "
        "rates. The nearer a line is to the upper left corner, the better the score separates wrong labels "
        "from right ones. Differences between the lines are due to the seed.",
    )


def roc_ood(curves: Mapping[str, Sequence[float]], areas: Mapping[str, float]) -> Chart:
    """Returns the ROC curves of scores that find out-of-distribution examples. ``curves``: true-positive rates at
    equal steps of the false-positive rate; ``areas``: their AUROC."""
    figure = go.Figure()
    _draw_chance(figure)
    for at, (score, curve) in enumerate(curves.items()):
        figure.add_scatter(
            x=np.linspace(0, 100, len(curve)),
            y=100 * np.asarray(curve, dtype=float),
            mode="lines",
            name=f"{escaped(score, 40)}, AUROC {areas[score]:.3f}",
            hoverinfo="name",
            hoverlabel={"namelength": -1},
            line=_line(at, 2),
        )
    _percent_axes(
        figure,
        400,
        "in distribution, taken for out of distribution (false-positive rate), %",
        "out of distribution, found (true-positive rate), %",
    )
    return Chart(
        figure,
        "Each line is the ROC curve of a score for finding out-of-distribution examples. The nearer a line "
        "is to the upper left corner, the better. The dashed line is a random score.",
    )
