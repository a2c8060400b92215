"""Charts as pure functions: a data frame → a Plotly figure and a short text on how to read it.

Colours come from ``dashboard.style.colours`` and always have a mark of their own (hatching, symbol). Numbers have units
and at most three significant digits. Names are untrusted and escaped. Backgrounds are transparent and text takes the
page's colour, so one figure fits the light and the dark theme. Charts compute nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dashboard.style.colours import DECIDED, LABEL, NEUTRAL, SERIES, WRONG
from dashboard.style.formatting import count, escaped, percent, percent_interval
from scoring.audit import SPLITS

HATCHES = {"train": "", "test": "/", "pool": "."}
SYMBOLS = {"train": "circle-open", "test": "circle", "pool": "diamond"}
SPLIT_COLOURS = {"train": NEUTRAL.colour, "test": SERIES[0], "pool": SERIES[1]}
STAGE_HATCHES = {"early": "/", "late": "", "all": "x"}
PATTERNS = ("", "/", ".", "x", "\\", "-", "|", "+")
TRANSPARENT = "rgba(0,0,0,0)"
ROW = 22
"""Height in pixels of one row in a chart with a row per class."""


@dataclass(frozen=True)
class Chart:
    """A figure and how to read it."""

    figure: go.Figure
    reading: str


def apply_layout(figure: go.Figure, height: int, **options: Any) -> go.Figure:
    """Returns the figure with the margins, legend and transparent background of every chart; ``height`` in pixels."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor=TRANSPARENT,
        plot_bgcolor=TRANSPARENT,
        legend={"orientation": "h", "traceorder": "normal", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"align": "left"},
        dragmode=False,
        **options,
    )
    figure.update_xaxes(automargin=True)
    return figure.update_yaxes(automargin=True)


def class_rows(figure: go.Figure, names: Sequence[str]) -> go.Figure:
    """Returns the figure with classes as rows in this order: full names on hover, shortened names at the axis."""
    ticks = [escaped(name, 24) for name in names]
    return figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=ticks,
        range=[len(names) - 0.5, -0.5],
        zeroline=False,
    )


def _by_split(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Returns the rows of each split that has any, train first."""
    there = [split for split in SPLITS if (frame["split"] == split).any()]
    return ((split, frame[frame["split"] == split]) for split in there)


def class_balance(frame: pd.DataFrame, names: Sequence[str], what: str = "class") -> Chart:
    """Returns the chart of the number of examples per class and split. ``frame``: label, split, n; ``names``: the
    classes to show, in order; ``what`` a row is, "class" or "group"."""
    figure, rows = go.Figure(), {name: at for at, name in enumerate(names)}
    for split, part in _by_split(frame[frame["label"].isin(names)]):
        figure.add_bar(
            orientation="h",
            x=part["n"],
            y=[rows[name] for name in part["label"]],
            name=str(split),
            marker={"color": LABEL.colour, "pattern": {"shape": HATCHES.get(split, "")}},
            hovertext=[
                f"{escaped(c)}, {split}: {count(n, 'example')}" for c, n in zip(part["label"], part["n"], strict=True)
            ],
            hoverinfo="text",
        )
    apply_layout(figure, 90 + ROW * max(len(names), 3), barmode="stack", bargap=0.3, showlegend=True)
    figure.update_xaxes(title="examples", rangemode="tozero", tickformat=",d")
    of = "the number of examples with one given label" if what == "class" else (f"the number of examples in one {what}")
    return Chart(
        class_rows(figure, names),
        f"Each bar is {of}. Hatching marks the split. Unequal bars mean an unbalanced dataset.",
    )


def class_accuracy(frame: pd.DataFrame, names: Sequence[str], what: str = "class") -> Chart:
    """Returns the chart of accuracy per class (or ``what``) and split with 95 % intervals. ``frame``: label, split,
    n, accuracy, low, high."""
    figure, rows = go.Figure(), {name: at for at, name in enumerate(names)}
    for split, part in _by_split(frame[frame["label"].isin(names)]):
        figure.add_scatter(
            mode="markers",
            x=100 * part["accuracy"],
            y=[rows[name] for name in part["label"]],
            name=str(split),
            marker={
                "symbol": SYMBOLS.get(split, "diamond"),
                "size": 9,
                "color": SPLIT_COLOURS.get(split, SERIES[1]),
            },
            error_x={
                "array": 100 * (part["high"] - part["accuracy"]),
                "thickness": 1.5,
                "width": 3,
                "arrayminus": 100 * (part["accuracy"] - part["low"]),
            },
            hovertext=[
                f"{escaped(row.label)}, {split}: {percent(row.accuracy)} of {count(row.n, 'example')} right "
                f"(95 % interval {percent_interval(row.low, row.high)})"
                for row in part.itertuples()
            ],
            hoverinfo="text",
        )
        _corrected_accuracy(figure, part, split, rows)
    apply_layout(figure, 90 + ROW * max(len(names), 3), showlegend=True)
    figure.update_xaxes(title="accuracy, %", rangemode="normal")
    return Chart(
        class_rows(figure, names),
        f"Each mark is the accuracy of the last checkpoint on one {what}, with its 95 % interval. Look first "
        f"at a {what} whose test mark is far left of the others."
        + (
            " ◇ is the accuracy on corrected labels, if some labels were changed."
            if "changed" in frame and frame["changed"].any()
            else ""
        ),
    )


def _corrected_accuracy(figure: go.Figure, part: pd.DataFrame, split: str, rows: dict[str, int]) -> None:
    """Adds open diamonds for the accuracy on corrected labels, if some were changed."""
    part = part[part["changed"].fillna(0) > 0] if "changed" in part else part.iloc[:0]
    if len(part):
        figure.add_scatter(
            mode="markers",
            x=100 * part["corrected"],
            y=[rows[name] for name in part["label"]],
            name=f"{split}, corrected",
            marker={
                "symbol": "diamond-open",
                "size": 10,
                "color": SPLIT_COLOURS.get(split, SERIES[1]),
                "line": {"width": 2},
            },
            hovertext=[
                f"{escaped(row.label)}, {split}: {percent(row.corrected)} right on corrected labels, "
                f"{int(row.changed):,} changed"
                for row in part.itertuples()
            ],
            hoverinfo="text",
        )


def error_by_decile(series: dict[str, pd.DataFrame], base_rate: float | None) -> Chart:
    """Returns the chart of error per decile of one score: a bar per series (stage) with its interval, and the base rate
    as a line.

    ``series``: name → the frame of ``scoring.evaluation.error_by_decile``. A point's custom data is [series,
    decile].
    """
    figure = go.Figure()
    for name, frame in series.items():
        figure.add_bar(
            x=frame["decile"],
            y=100 * frame["error"],
            name=escaped(name),
            offsetgroup=name,
            customdata=[[name, int(d)] for d in frame["decile"]],
            marker={
                "color": WRONG.colour,
                "pattern": {"shape": STAGE_HATCHES.get(name, ""), "fgopacity": 0.6},
            },
            error_y={
                "array": 100 * (frame["high"] - frame["error"]),
                "arrayminus": 100 * (frame["error"] - frame["low"]),
                "thickness": 1.2,
                "width": 3,
                "color": NEUTRAL.colour,
            },
            hovertext=[
                f"{escaped(name)}, decile {int(row.decile)}: {percent(row.error)} wrong of "
                f"{count(int(row.n), 'example')} (95 % interval {percent_interval(row.low, row.high)})"
                for row in frame.itertuples()
            ],
            hoverinfo="text",
        )
        _corrected_errors(figure, name, frame)
    if base_rate is not None and base_rate == base_rate:
        figure.add_hline(
            y=100 * base_rate,
            line={"color": NEUTRAL.colour, "dash": "dash", "width": 1.5},
            annotation={
                "text": f"base rate<br>{percent(base_rate)}",
                "x": 1,
                "xanchor": "left",
                "yanchor": "middle",
                "align": "left",
            },
        )
    apply_layout(figure, 340, barmode="group", bargap=0.25, showlegend=len(series) > 1, clickmode="event+select")
    figure.update_layout(margin={"r": 80}, scattermode="group", scattergap=0.25)
    figure.update_xaxes(title="decile of the score, 1 = lowest", dtick=1)
    figure.update_yaxes(title="error, %", rangemode="tozero")
    return Chart(
        figure,
        "Each bar is the model's error rate on one tenth of the examples, ranked by the score. The dashed line is the "
        "error rate on all of them. Bars that rise or fall steadily mean that the score ranks difficulty.",
    )


def _corrected_errors(figure: go.Figure, name: str, frame: pd.DataFrame) -> None:
    """Adds open diamonds over the bars of one series for the error on corrected labels, if some were changed."""
    rows = frame[frame["changed"].fillna(0) > 0] if "changed" in frame else frame.iloc[:0]
    if len(rows):
        figure.add_scatter(
            mode="markers",
            x=rows["decile"],
            y=100 * rows["corrected"],
            name=f"{escaped(name)}, corrected",
            offsetgroup=name,
            marker={"symbol": "diamond-open", "size": 11, "color": LABEL.colour, "line": {"width": 2}},
            cliponaxis=False,
            customdata=[[name, int(d)] for d in rows["decile"]],
            hovertext=[
                f"{escaped(name)}, decile {int(row.decile)}: {percent(row.corrected)} wrong on corrected labels, "
                f"{int(row.changed):,} changed"
                for row in rows.itertuples()
            ],
            hoverinfo="text",
        )


def class_deciles(frame: pd.DataFrame, names: Sequence[str], what: str = "class") -> Chart:
    """Returns the chart of error per decile within each class (or ``what``) as a table of colours. ``frame``: class,
    decile, n, error."""
    grid = frame.pivot(index="class", columns="decile", values="error").reindex(list(names))
    sizes = frame.pivot(index="class", columns="decile", values="n").reindex(list(names))
    both = {
        (row["class"], row["decile"]): f", {percent(row['corrected'])} on corrected labels, "
        f"{int(row['changed']):,} changed"
        for row in frame.to_dict("records")
        if row.get("changed", 0) > 0
    }
    text = [
        [
            f"{escaped(name)}, decile {d}: {percent(grid.loc[name, d])} wrong "
            f"of {count(int(sizes.loc[name, d]), 'example')}{both.get((name, d), '')}"
            for d in grid.columns
        ]
        for name in grid.index
    ]
    figure = go.Figure(
        go.Heatmap(
            x=list(grid.columns),
            y=list(range(len(names))),
            z=100 * grid.to_numpy(),
            hovertext=text,
            hoverinfo="text",
            xgap=1,
            ygap=1,
            zmin=0,
            colorscale=[[0, "rgba(213,94,0,0.06)"], [1, WRONG.colour]],
            colorbar={"title": {"text": "error, %"}, "thickness": 10},
        )
    )
    apply_layout(figure, 90 + ROW * max(len(names), 3))
    figure.update_xaxes(title=f"decile of the score within the {what}, 1 = lowest", dtick=1, showgrid=False)
    figure.update_yaxes(showgrid=False)
    return Chart(
        class_rows(figure, names),
        f"Each row is a {what} and each cell is one tenth of its examples, ranked by the score. If the colour "
        f"gets stronger towards one end, the score ranks difficulty within this {what}.",
    )


def decisions_per_day(frame: pd.DataFrame) -> Chart:
    """Returns the chart of decisions per reviewer and day. ``frame``: day, reviewer, n."""
    figure = go.Figure()
    for number, (reviewer, part) in enumerate(frame.groupby("reviewer", sort=True)):
        figure.add_bar(
            x=part["day"],
            y=part["n"],
            name=escaped(reviewer, 24),
            marker={
                "color": (DECIDED.colour, SERIES[0], NEUTRAL.colour)[number // len(PATTERNS) % 3],
                "pattern": {"shape": PATTERNS[number % len(PATTERNS)]},
            },
            hovertext=[
                f"{escaped(reviewer)}, {day}: {count(n, 'decision')}"
                for day, n in zip(part["day"], part["n"], strict=True)
            ],
            hoverinfo="text",
        )
    apply_layout(figure, 220, barmode="stack", bargap=0.4, showlegend=True)
    figure.update_xaxes(type="category", title="day, UTC")
    figure.update_yaxes(title="decisions", rangemode="tozero", tickformat=",d")
    return Chart(
        figure, "Each bar is the number of decisions on one day, by reviewer. Undone decisions are not counted."
    )
