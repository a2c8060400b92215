"""Charts that compare scores: data frames → a figure and how to read it. The rules of ``dashboard.charts.common`` hold.

A heat map cannot be clicked in Streamlit, so each of its cells has an invisible mark that can be. The page offers the
same choice by keyboard in two lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.charts.common import ROW, TRANSPARENT, Chart, apply_layout, class_rows
from dashboard.charts.detection_curves import DASHES, LINE_COLOURS
from dashboard.style.colours import LABEL, NEUTRAL, SERIES
from dashboard.style.formatting import count, escaped, number, percent

CELL = 30
WITH_NUMBERS = 28
PALE, INK = (
    "#ECECEC",
    "#000000",
)  # every cell is light enough for black digits in both themes
DIVERGING = [[0, "#56B4E9"], [0.5, PALE], [1, "#E08214"]]
RISING = [[0, PALE], [1, "#E08214"]]
LABELLED, UNLABELLED = "●", "○"


def matrix(
    table: pd.DataFrame,
    names: Mapping[str, str],
    marks: Mapping[str, str],
    picked: tuple[str, str] | None,
    *,
    what: str,
    diverging: bool,
    reading: str,
) -> Chart:
    """Returns the matrix of scores against scores. ``table``: by address in the order to draw, square or not;
    ``names``: address → title; ``marks``: address → mark before the title; ``picked``: the pair to outline. A mark's
    custom data is [row, column]."""
    rows, columns = list(table.index), list(table.columns)
    values = table.to_numpy(dtype=float)
    hover = [
        f"{escaped(names[a])}<br>{escaped(names[b])}<br>{what} {number(values[i, j])}"
        for i, a in enumerate(rows)
        for j, b in enumerate(columns)
    ]
    text = [["" if np.isnan(value) else f"{value:.2f}".replace("-", "−") for value in row] for row in values]
    figure = go.Figure(
        go.Heatmap(
            x=list(range(len(columns))),
            y=list(range(len(rows))),
            z=values,
            text=text,
            texttemplate="%{text}" if len(columns) <= WITH_NUMBERS else None,
            textfont={"size": 10, "color": INK},
            hoverinfo="skip",
            xgap=1,
            ygap=1,
            zmin=-1 if diverging else 0,
            zmax=1,
            colorscale=DIVERGING if diverging else RISING,
            colorbar={"title": {"text": what}, "thickness": 10},
        )
    )
    figure.add_scatter(**_targets(rows, columns, hover))
    for a, b in {picked, picked[::-1]} if picked else ():
        if a in rows and b in columns:
            _outline(figure, rows.index(a), columns.index(b))
    apply_layout(figure, 170 + CELL * max(len(rows), 4), clickmode="event+select", showlegend=False)
    for axis, order in ((figure.update_xaxes, columns), (figure.update_yaxes, rows)):
        ticks = [f"{marks.get(a, '')} {escaped(names[a], 26)}".strip() for a in order]
        axis(tickmode="array", tickvals=list(range(len(order))), ticktext=ticks, showgrid=False, zeroline=False)
    figure.update_xaxes(tickangle=-45, side="bottom", range=[-0.5, len(columns) - 0.5])
    figure.update_yaxes(range=[len(rows) - 0.5, -0.5])
    return Chart(figure, reading)


def _targets(rows: Sequence[str], columns: Sequence[str], hover: Sequence[str]) -> dict[str, Any]:
    """Returns one invisible square per cell, for hovering and clicking."""
    invisible = {"marker": {"opacity": 0}}
    return {
        "x": [j for _ in rows for j in range(len(columns))],
        "y": [i for i in range(len(rows)) for _ in columns],
        "mode": "markers",
        "marker": {"symbol": "square", "size": CELL - 4, "opacity": 0, "color": NEUTRAL.colour},
        "selected": invisible,
        "unselected": invisible,
        "customdata": [[a, b] for a in rows for b in columns],
        "hovertext": hover,
        "hoverinfo": "text",
    }


def _outline(figure: go.Figure, i: int, j: int) -> None:
    box = {"x0": j - 0.48, "x1": j + 0.48, "y0": i - 0.48, "y1": i + 0.48}
    figure.add_shape(type="rect", line={"color": LABEL.colour, "width": 3}, **box)


def by_group(table: pd.DataFrame, what: str = "class") -> Chart:
    """Returns the chart of the correlation of two scores within each class (or ``what``). ``table``: group, n, rho,
    low, high."""
    names = table["group"].tolist()
    rows = list(table.itertuples())
    figure = go.Figure(
        go.Scatter(
            mode="markers",
            x=table["rho"],
            y=list(range(len(names))),
            marker={"size": 9, "color": SERIES[0], "line": {"width": 1, "color": NEUTRAL.colour}},
            error_x={
                "array": (table["high"] - table["rho"]).fillna(0),
                "arrayminus": (table["rho"] - table["low"]).fillna(0),
                "thickness": 1.5,
                "width": 3,
            },
            hovertext=[
                f"{escaped(row.group)}, {count(row.n, 'example')}: {number(row.rho)} "
                f"(95 % interval {number(row.low)} to {number(row.high)})"
                for row in rows
            ],
            hoverinfo="text",
        )
    )
    figure.add_vline(x=0, line={"color": NEUTRAL.colour, "dash": "dash", "width": 1.5})
    apply_layout(figure, 90 + ROW * max(len(names), 3), showlegend=False)
    figure.update_xaxes(title=f"rank correlation within the {what}", range=[-1.05, 1.05])
    return Chart(
        class_rows(figure, names),
        f"Each mark is the rank correlation of the two scores within one {what}, with its 95 % interval. In a "
        f"{what} far from the others, the two scores measure different things.",
    )


def run_correlations(table: pd.DataFrame, names: Mapping[str, str]) -> Chart:
    """Returns the chart of the rank correlation between runs for every score. ``table``: score, run_a, run_b, n,
    rho."""
    order = table.groupby("score")["rho"].mean().sort_values(ascending=False).index.tolist()
    place = {address: at for at, address in enumerate(order)}
    known = table.dropna(subset=["rho"])
    mean = known.groupby("score")["rho"].mean()
    figure = go.Figure()
    figure.add_scatter(
        mode="markers",
        name="a pair of runs",
        x=known["rho"],
        y=[place[address] for address in known["score"]],
        marker={"symbol": "circle-open", "size": 8, "color": NEUTRAL.colour},
        hovertext=[
            f"{escaped(names[row.score])}<br>{escaped(row.run_a)} and {escaped(row.run_b)}: "
            f"{number(row.rho)}, {count(row.n, 'example')}"
            for row in known.itertuples()
        ],
        hoverinfo="text",
    )
    figure.add_scatter(
        mode="markers",
        name="mean",
        x=mean,
        y=[place[address] for address in mean.index],
        marker={"symbol": "line-ns-open", "size": 14, "line": {"width": 3}, "color": LABEL.colour},
        hovertext=[f"{escaped(names[address])}: mean {number(value)}" for address, value in mean.items()],
        hoverinfo="text",
    )
    apply_layout(figure, 110 + ROW * max(len(order), 3), showlegend=True)
    figure.update_xaxes(
        title="rank correlation of two runs",
        range=[min(0.0, float(known["rho"].min())) - 0.05, 1.03] if len(known) else [0, 1],
    )
    return Chart(
        class_rows(figure, [names[address] for address in order]),
        "Each circle is the rank correlation of a score between two runs, and each bar is the mean of the circles. A "
        "score near 1 ranks the examples in the same way for every seed. A score far left depends mostly on the seed.",
    )


def decile_runs(by_run: pd.DataFrame, band: pd.DataFrame) -> Chart:
    """Returns the chart of error per decile of every run, with the band mean ± one standard deviation. ``by_run``:
    run, decile, n, error; ``band``: decile, mean, deviation, low, high and, where labels were changed, corrected,
    corrected_deviation, changed."""
    figure = go.Figure()
    if band["low"].notna().any():
        figure.add_scatter(
            x=[*band["decile"], *band["decile"][::-1]],
            y=[*(100 * band["high"]), *(100 * band["low"][::-1])],
            fill="toself",
            fillcolor="rgba(128,128,128,0.22)",
            line={"width": 0},
            name="mean ± 1 SD",
            hoverinfo="skip",
        )
    for at, (run, part) in enumerate(by_run.groupby("run", sort=False)):
        figure.add_scatter(
            x=part["decile"],
            y=100 * part["error"],
            mode="lines",
            name=escaped(run, 24),
            line={
                "width": 1.5,
                "color": LINE_COLOURS[at % len(LINE_COLOURS)],
                "dash": DASHES[at // len(LINE_COLOURS) % len(DASHES)],
            },
            hovertext=[
                f"{escaped(run)}, decile {row.decile}: {percent(row.error)} of {count(row.n, 'example')} wrong"
                for row in part.itertuples()
            ],
            hoverinfo="text",
        )
    figure.add_scatter(
        x=band["decile"],
        y=100 * band["mean"],
        mode="lines+markers",
        name="mean",
        line={"width": 3, "color": NEUTRAL.colour},
        hovertext=[
            f"decile {row.decile}: mean {percent(row.mean)}, SD {percent(row.deviation)}" for row in band.itertuples()
        ],
        hoverinfo="text",
    )
    _corrected_mean(figure, band)
    apply_layout(figure, 340, showlegend=True)
    figure.update_xaxes(title="decile of the score, the suspicious end at 10", dtick=1)
    figure.update_yaxes(title="error, %", rangemode="tozero")
    return Chart(
        figure,
        "Each thin line is a run. The thick line is their mean, and the band is one standard deviation on either side. "
        "If all lines rise, the score ranks difficulty in every run. If they cross, its ranking differs between runs.",
    )


def _corrected_mean(figure: go.Figure, band: pd.DataFrame) -> None:
    """Adds open diamonds for the mean over the runs on corrected labels, if some were changed."""
    rows = band[band["changed"].fillna(0) > 0] if "changed" in band else band.iloc[:0]
    if len(rows):
        figure.add_scatter(
            mode="markers",
            x=rows["decile"],
            y=100 * rows["corrected"],
            name="mean, corrected",
            marker={"symbol": "diamond-open", "size": 11, "color": LABEL.colour, "line": {"width": 2}},
            cliponaxis=False,
            hovertext=[
                f"decile {row.decile}: mean {percent(row.corrected)} wrong on corrected labels, SD "
                f"{percent(row.corrected_deviation)}; {number(row.changed)} changed per run"
                for row in rows.itertuples()
            ],
            hoverinfo="text",
        )


def deviations(table: pd.DataFrame) -> Chart:
    """Returns the histogram of how much positions in the ranking vary between runs. ``table``: place_deviation by
    example_id."""
    figure = go.Figure(
        go.Histogram(
            x=100 * table["place_deviation"].dropna(),
            nbinsx=40,
            marker={"color": SERIES[0]},
            hovertemplate="%{y:,} examples move by %{x} % of the ranking<extra></extra>",
        )
    )
    apply_layout(figure, 240, bargap=0.05, showlegend=False)
    figure.update_layout(paper_bgcolor=TRANSPARENT)
    figure.update_xaxes(
        title="standard deviation of an example's position over the runs, % of the ranking", rangemode="tozero"
    )
    figure.update_yaxes(title="examples")
    return Chart(
        figure,
        "Each bar is a number of examples, by how much their position in the ranking varies between runs. 0 "
        "% is a constant position; random rankings give 29 %.",
    )
