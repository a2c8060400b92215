"""Charts of the data map: points by variability and confidence, and the learning curve of a training.

The rules of ``dashboard.charts.common`` hold. The axes are the same at every epoch, so that epochs can be compared.
Cost: 0.2 s for 20,000 points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.charts.common import TRANSPARENT, Chart, apply_layout
from dashboard.charts.lasso_geometry import Outline
from dashboard.charts.slice_charts import OTHERS, SCALE, group_style
from dashboard.style.colours import LABEL, NEUTRAL, SERIES
from dashboard.style.formatting import count, escaped, number, percent

HEIGHT = 470
LEGEND = 24
LOOKS = {
    "easy": {"color": SCALE[0][1], "symbol": "circle"},
    "ambiguous": {"color": SCALE[1][1], "symbol": "diamond"},
    "hard": {"color": SCALE[2][1], "symbol": "x"},
}
READING = (
    "Each point is an example. Height is confidence: the mean probability of its label over the epochs. The position "
    "from left to right is variability: how much that probability changed between epochs. Easy examples are at the "
    "top, ambiguous ones at the right, hard or wrongly labelled ones at the lower left."
)


def data_map(points: pd.DataFrame, colour: str, title: str, outlines: Sequence[Outline] = ()) -> Chart:
    """Returns the chart of variability against confidence. ``points``: example_id, label, prediction, confidence,
    variability, correctness, score, region, and group where that is the colour; ``colour``: correctness, label,
    region, group or score (``title`` names the last two). A point's custom data is its row in ``points``."""
    figure = go.Figure()
    if colour in ("label", "region", "group"):
        _add_groups(figure, points, colour)
        reading = READING
    else:
        value = points["correctness"] if colour == "correctness" else points["score"]
        _add_scale(figure, points, value, title, share=colour == "correctness")
        reading = f"{READING} Blue is low and orange is high" + (
            "." if colour == "correctness" else "; the lowest 2 % share one colour, and so do the highest 2 %."
        )
    for outline in outlines:
        path = "M" + "L".join(f"{x:.4g},{y:.4g}" for x, y in outline) + "Z"
        figure.add_shape(type="path", path=path, line={"color": NEUTRAL.colour, "width": 2, "dash": "dash"})
    apply_layout(figure, HEIGHT, showlegend=True)
    figure.update_layout(
        dragmode="lasso",
        legend={"orientation": "v", "x": 1.01, "y": 0.98, "yanchor": "top", "itemsizing": "constant"},
        modebar={"bgcolor": TRANSPARENT, "color": NEUTRAL.colour, "activecolor": LABEL.colour},
    )
    figure.update_xaxes(title="variability of p(label)", range=[-0.012, 0.512], zeroline=False)
    figure.update_yaxes(title="confidence: mean p(label)", range=[-0.03, 1.03], zeroline=False)
    return Chart(figure, f"{reading} Draw a lasso around points to list their examples.")


def _add_groups(figure: go.Figure, points: pd.DataFrame, colour: str) -> None:
    """Adds one trace per region, label or group; the labels or groups beyond ``LEGEND`` are one trace."""
    if colour == "region":
        named = [(name, points["region"] == name, LOOKS[name]) for name in LOOKS]
    else:
        sizes = points[colour].value_counts().index
        named = [(name, points[colour] == name, dict(group_style(at))) for at, name in enumerate(sizes[:LEGEND])]
        rest = points[colour].isin(sizes[LEGEND:]) | points[colour].isna()
        named.append((OTHERS, rest, {"color": NEUTRAL.colour, "symbol": "circle"}))
    for name, rows, look in named:
        part = points[rows.to_numpy(dtype=bool)]
        if len(part):
            marker = {**look, "size": 6, "opacity": 0.8, "line": {"width": 0}}
            figure.add_scattergl(**_trace(part), name=escaped(f"{name} ({len(part):,})", 40), marker=marker)


def _add_scale(figure: go.Figure, points: pd.DataFrame, value: pd.Series, title: str, share: bool) -> None:
    """Adds points coloured by a number, extremes on top; points without a number are grey."""
    known = value.notna()
    unknown = points[~known]
    if len(unknown):
        marker = {"color": NEUTRAL.colour, "symbol": "circle-open", "size": 5}
        figure.add_scattergl(**_trace(unknown), name=f"not scored ({len(unknown):,})", marker=marker)
    order = (value[known].rank(pct=True) - 0.5).abs().argsort().to_numpy()
    part, shown = points[known].iloc[order], value[known].iloc[order]
    low, high = (0.0, 1.0) if share or not len(shown) else shown.quantile([0.02, 0.98])
    marker = {
        "color": shown,
        "colorscale": SCALE,
        "cmin": low,
        "cmax": high,
        "size": 6,
        "opacity": 0.85,
        "line": {"width": 0},
        "colorbar": {"title": {"text": escaped(title, 30)}, "thickness": 12, "len": 0.8, "y": 0.45},
    }
    figure.add_scattergl(**_trace(part), name=f"scored ({len(part):,})", marker=marker, showlegend=False)


def _trace(part: pd.DataFrame) -> dict[str, Any]:
    hover = [
        f"{escaped(row.example_id)}<br>label {_name(row.label)}, prediction {_name(row.prediction)}<br>confidence "
        f"{number(row.confidence)}, variability {number(row.variability)}, right in {percent(row.correctness)}"
        + ("" if row.score is None or np.isnan(row.score) else f"<br>score {number(row.score)}")
        for row in part.itertuples()
    ]
    return {
        "x": part["variability"],
        "y": part["confidence"],
        "mode": "markers",
        "customdata": part.index,
        "hovertext": hover,
        "hoverinfo": "text",
    }


def _name(value: Any) -> str:
    return escaped(value, 30) if isinstance(value, str) else "none"


def progress(table: pd.DataFrame, epoch: int) -> Chart:
    """Returns the learning curve of the selected examples. ``table``: epoch, n, p_label, correct; ``epoch``: the
    chosen one."""
    figure = go.Figure()
    looks = (("correct", "right", SERIES[1], "solid"), ("p_label", "mean p(label)", SERIES[3], "dot"))
    for column, name, colour, dash in looks:
        figure.add_scatter(
            x=table["epoch"],
            y=100 * table[column],
            mode="lines+markers",
            name=name,
            line={"color": colour, "dash": dash, "width": 2},
            hovertext=[
                f"after epoch {row.epoch}: {name} {percent(getattr(row, column))}, {count(row.n, 'example')}"
                for row in table.itertuples()
            ],
            hoverinfo="text",
        )
    figure.add_vline(x=epoch, line={"color": NEUTRAL.colour, "width": 1.5})
    apply_layout(figure, 200, showlegend=True)
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title="%", range=[0, 102])
    return Chart(
        figure,
        "The lines show accuracy and mean probability of the label on these examples after each single "
        "epoch. The vertical line is the chosen epoch; the map uses all epochs up to it.",
    )
