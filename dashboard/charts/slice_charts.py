"""Charts of slices, of the influence map and of the effect of corrections: a data frame → a figure and how to read it.

The rules of ``dashboard.charts.common`` hold. Colours without a role (slices, classes on the map) have a symbol each,
so that 30 groups differ in colour or shape; further groups are drawn as one. Cost: 0.2 s for 20,000 points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.charts.common import ROW, TRANSPARENT, Chart, apply_layout, class_rows
from dashboard.charts.lasso_geometry import Outline
from dashboard.style.colours import DECIDED, LABEL, NEUTRAL, PREDICTION, SERIES, WRONG
from dashboard.style.formatting import count, escaped, number

SHAPES = ("circle", "square", "diamond", "triangle-up", "cross")
POINT_COLOURS = SERIES[:6]  # without the palette's yellow, which is invisible on white
MAP_HEIGHT = 560
RIGHT, MISSED, UNKNOWN = "right", "wrong", "not known"
OTHERS = "all others"
IN_NO_SLICE = "in no slice"
SCALE = [
    [0, "#3B76AF"],
    [0.5, "#8C8C8C"],
    [1, "#E08214"],
]  # visible in both themes and safe for colour-blind readers


# -- the map ---------------------------------------------------------------------------------------------------------


def group_style(place: int) -> dict[str, str]:
    """Returns colour and symbol of the n-th group; each pair is used once.

    >>> pairs = len(POINT_COLOURS) * len(SHAPES)
    >>> len({tuple(group_style(place).values()) for place in range(pairs)}) == pairs
    True
    """
    return {
        "color": POINT_COLOURS[place % len(POINT_COLOURS)],
        "symbol": SHAPES[(place + place // len(POINT_COLOURS)) % len(SHAPES)],
    }


def influence_map(
    points: pd.DataFrame, groups: Sequence[tuple[str, pd.Series]], outlines: Sequence[Outline] = ()
) -> Chart:
    """Returns the map with points in groups, each a trace of its own. ``groups``: (name, which rows), in the order
    of the legend; a point's custom data is its row in ``points``. ``outlines`` are drawn over it."""
    figure = go.Figure()
    parts = [(place, name, points[rows.to_numpy(dtype=bool)]) for place, (name, rows) in enumerate(groups)]
    # small groups are drawn last, so that they lie on top
    for place, name, part in sorted(parts, key=lambda one: -len(one[2])):
        if len(part):
            title = escaped(f"{name} ({len(part):,})", 40)
            marker = _marker(name, place)
            figure.add_scattergl(**_trace(part), name=title, marker=marker, legendrank=place + 1)
    return _finished(
        figure,
        outlines,
        "Each point is an example. Examples that the training set influences similarly are close together. A "
        "cluster of one colour is one kind of example; in a cluster of mixed colours the model confuses "
        "kinds. The axes have no unit. Draw a lasso around points to list their examples.",
    )


def score_map(points: pd.DataFrame, title: str, outlines: Sequence[Outline] = ()) -> Chart:
    """Returns the map with points coloured by a score, extremes on top; points without a score are grey."""
    figure = go.Figure()
    known = points[points["score"].notna()]
    unknown = points[points["score"].isna()]
    if len(unknown):
        name = f"not scored ({len(unknown):,})"
        figure.add_scattergl(**_trace(unknown), name=name, marker=_marker(UNKNOWN, 0))
    known = known.iloc[(known["score"].rank(pct=True) - 0.5).abs().argsort()]
    low, high = known["score"].quantile([0.02, 0.98]) if len(known) else (0.0, 1.0)
    marker = {
        "color": known["score"],
        "colorscale": SCALE,
        "cmin": low,
        "cmax": high,
        "size": 6,
        "line": {"width": 0},
        "colorbar": {"title": {"text": escaped(title, 30)}, "thickness": 12, "len": 0.8, "y": 0.45},
    }
    figure.add_scattergl(**_trace(known), name=f"scored ({len(known):,})", marker=marker, showlegend=False)
    reading = (
        "Each point is an example. Examples that the training set influences similarly are close together. "
        "Blue is low and orange is high; the lowest 2 % share one colour, and so do the highest 2 %. Draw a "
        "lasso around points to list their examples."
    )
    chart = _finished(figure, outlines, reading)
    chart.figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"})
    return chart


def _trace(part: pd.DataFrame) -> dict[str, Any]:
    """Returns coordinates, hover texts and, as custom data, the row of each point."""
    hover = [
        f"{escaped(row.example_id)}<br>label {_name(row.label)}, prediction {_name(row.prediction)}"
        + ("" if row.score is None or np.isnan(row.score) else f"<br>score {number(row.score)}")
        for row in part.itertuples()
    ]
    return {
        "x": part["x"],
        "y": part["y"],
        "mode": "markers",
        "customdata": part.index,
        "hovertext": hover,
        "hoverinfo": "text",
    }


def _name(value: Any) -> str:
    return escaped(value, 30) if isinstance(value, str) else "none"


def _marker(name: str, place: int) -> dict[str, Any]:
    """Returns the marker of a group: right, wrong and unknown have fixed ones, others the next pair of colour and
    symbol."""
    own = {
        RIGHT: {"color": NEUTRAL.colour, "symbol": "circle", "size": 5, "opacity": 0.55},
        MISSED: {"color": WRONG.colour, "symbol": "x", "size": 7},
        UNKNOWN: {"color": NEUTRAL.colour, "symbol": "x-thin-open", "size": 5},
        IN_NO_SLICE: {"color": NEUTRAL.colour, "symbol": "circle-open", "size": 5, "opacity": 0.45},
        OTHERS: {"color": NEUTRAL.colour, "symbol": "square-open", "size": 5, "opacity": 0.6},
    }
    return own.get(name) or {**group_style(place), "size": 6, "line": {"width": 0}}


def _finished(figure: go.Figure, outlines: Sequence[Outline], reading: str) -> Chart:
    for outline in outlines:
        path = "M" + "L".join(f"{x:.4g},{y:.4g}" for x, y in outline) + "Z"
        figure.add_shape(type="path", path=path, line={"color": NEUTRAL.colour, "width": 2, "dash": "dash"})
    apply_layout(figure, MAP_HEIGHT, showlegend=True)
    figure.update_layout(
        dragmode="lasso",
        legend={"orientation": "v", "x": 1.01, "y": 0.93, "yanchor": "top", "itemsizing": "constant"},
        modebar={"bgcolor": TRANSPARENT, "color": NEUTRAL.colour, "activecolor": LABEL.colour},
    )
    for axis in (figure.update_xaxes, figure.update_yaxes):
        axis(showgrid=False, zeroline=False, showticklabels=False)
    return Chart(figure, reading)


# -- an opened slice -------------------------------------------------------------------------------------------------


def labels_and_predictions(rows: Sequence[tuple[str, int, int]]) -> Chart:
    """Returns the chart of label and prediction counts per class in a slice. ``rows``: (class, labels,
    predictions)."""
    figure, names = go.Figure(), [name for name, _, _ in rows]
    labels, predictions = [n for _, n, _ in rows], [n for _, _, n in rows]
    for role, word, numbers, hatch in ((LABEL, "label", labels, ""), (PREDICTION, "prediction", predictions, "/")):
        figure.add_bar(
            orientation="h",
            x=numbers,
            y=list(range(len(rows))),
            name=f"{role.mark} {word}",
            marker={"color": role.colour, "pattern": {"shape": hatch}},
            hoverinfo="text",
            hovertext=[
                f"{escaped(name)}: {word} of {count(n, 'example')}" for name, n in zip(names, numbers, strict=True)
            ],
        )
    apply_layout(figure, 80 + (ROW + 8) * max(len(rows), 2), barmode="group", bargap=0.25, showlegend=True)
    figure.update_xaxes(title="examples", rangemode="tozero")
    return Chart(
        class_rows(figure, names),
        "Blue bars count given labels in the slice, orange hatched bars count predictions. A class with a "
        "long orange bar and a short blue one is predicted wrongly here.",
    )


# -- what corrections do ---------------------------------------------------------------------------------------------


def accuracy_gains(frame: pd.DataFrame) -> Chart:
    """Returns the chart of the change of accuracy per group, against original labels and against the placebo.

    ``frame``: group, n, gain, gain_low, gain_high, over_placebo, over_placebo_low, over_placebo_high.
    """
    figure, at = go.Figure(), np.arange(len(frame))
    looks = (
        ("gain", "against the original labels", DECIDED.colour, "circle", -0.14),
        ("over_placebo", "against random edits (placebo)", NEUTRAL.colour, "diamond-open", 0.14),
    )
    for name, title, colour, symbol, shift in looks:
        low, high, mid = (100 * frame[f"{name}{end}"].astype(float) for end in ("_low", "_high", ""))
        # the centre of the adjusted interval is not the estimate, so the point may lie outside
        figure.add_scatter(
            mode="markers",
            x=mid,
            y=at + shift,
            name=title,
            marker={"symbol": symbol, "size": 9, "color": colour},
            hoverinfo="text",
            error_x={
                "array": (high - mid).clip(lower=0),
                "arrayminus": (mid - low).clip(lower=0),
                "thickness": 1.5,
                "width": 3,
            },
            hovertext=[
                f"{escaped(group)}, {count(int(n), 'example')}: {point_change(m)} {title} (95 % interval "
                f"{point_change(a)} to {point_change(b)})"
                for group, n, m, a, b in zip(frame["group"], frame["n"], mid, low, high, strict=True)
            ],
        )
    figure.add_vline(x=0, line={"color": NEUTRAL.colour, "dash": "dash", "width": 1.5})
    apply_layout(figure, 90 + (ROW + 6) * max(len(frame), 3), showlegend=True)
    figure.update_xaxes(title="change of accuracy, percentage points")
    return Chart(
        class_rows(figure, list(frame["group"])),
        "Each mark is a difference of accuracy with its paired 95 % interval: corrected labels minus "
        "original labels (circle), or minus an equal number of random edits (diamond). Right of the dashed "
        "line the corrections help. An interval that crosses the line is not significant.",
    )


def loss_changes(frame: pd.DataFrame) -> Chart:
    """Returns the chart of the predicted change of mean loss per group. ``frame``: group, n, change (nats)."""
    figure = go.Figure(
        go.Bar(
            orientation="h",
            x=frame["change"].astype(float),
            y=list(range(len(frame))),
            marker={
                "color": [DECIDED.colour if value < 0 else WRONG.colour for value in frame["change"]],
                "pattern": {"shape": ["" if value < 0 else "/" for value in frame["change"]]},
            },
            hovertext=[
                f"{escaped(row.group)}, {count(int(row.n), 'example')}: {number(row.change, 'nats')}"
                for row in frame.itertuples()
            ],
            hoverinfo="text",
        )
    )
    apply_layout(figure, 90 + (ROW + 6) * max(len(frame), 3), bargap=0.4)
    figure.update_xaxes(title="predicted change of loss, nats", zeroline=True, zerolinecolor=NEUTRAL.colour)
    return Chart(
        class_rows(figure, list(frame["group"])),
        "Each bar is the change of a group's mean loss that influence predicts for training on the corrected labels. "
        "Green bars to the left: the loss falls, which helps. Hatched bars to the right: the loss rises.",
    )


def point_change(value: float) -> str:
    """Returns a change in percentage points with its sign.

    >>> point_change(1.234), point_change(-0.5)
    ('+1.23 points', '−0.5 points')
    """
    return f"{'−' if value < 0 else '+'}{abs(value):.3g} points"
