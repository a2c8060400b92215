"""The matrix of given label and suggested label: number of suspects and of decisions per pair, and links to their
queues.

A suspect is in the most suspicious fifth of its split by the queue's own order. The suggested label is the queue's. A
click on a square, or on a link of the table beside it, opens the queue of the pair in a session.

Cost: the probabilities are read once per scored run and cached.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard.blinding import model_output, second_reader
from dashboard.charts.common import Chart, apply_layout
from dashboard.queries import database, decisions
from dashboard.style.colours import LABEL
from dashboard.style.formatting import command_line, count, escaped
from dashboard.widgets import inputs, page_frame
from scoring.audit import Audit, Run
from scoring.queue import order as queues

MOST_CLASSES = 40
MOST_PAIRS = 200
LARGEST = 26
"""Size in pixels of the square of the most frequent pair."""


def show_pairs(audit: Audit, run: Run | None, meta: tuple[Any, ...]) -> None:
    """Shows the matrix; one sentence if there are no suggestions."""
    st.subheader("Label → suggested label", anchor=False)
    split = inputs.pick_split(audit, "train", labelled=True)
    if second_reader.is_blind_split(audit, split):
        return inputs.empty("The test split is reviewed blind, so its suggested labels are hidden.")
    found = pairs(audit, run, split or "train", meta)
    if run is None or found.empty:
        typed = command_line("score", audit, *(["--run", run.name] if run else []))
        return inputs.empty(
            "There are no pairs of label and suggested label yet. They need a scored run with class "
            "probabilities. This command computes both:",
            typed,
        )
    shared = {"run": run.name, "split": split, **inputs.meta_parameters(meta)}
    left, right = st.columns([3, 2])
    if len(set(found["label"]) | set(found["suggestion"])) <= MOST_CLASSES:
        with left:
            picked = inputs.show_chart(chart(found), "pairs", on_select="rerun", selection_mode="points")
        _open_picked(picked, found, shared)
    else:
        left.caption(
            f"{count(audit.classes.__len__(), 'class', 'classes')} are too many for the chart. The table lists "
            "the most frequent pairs."
        )
    right.dataframe(
        _table(found.head(MOST_PAIRS), shared),
        hide_index=True,
        placeholder=inputs.NONE,
        height=360,
        column_config=_columns(),
    )
    return None


def pairs(audit: Audit, run: Run | None, split: str, meta: tuple[Any, ...] = ()) -> pd.DataFrame:
    """Returns label, suggestion, suspects and decided of every pair that has suspects, the most frequent first."""
    empty = pd.DataFrame(columns=["label", "suggestion", "suspects", "decided"])
    order = database.start_order(audit, run, split) if run else None
    if run is None or order is None:
        return empty
    files = (audit.examples_path, run.score_path(order.scorer), run.predictions_path, run.out_of_fold_path)
    table = _suspects(audit.root, run.name, order, split, tuple(database.stamp(path) for path in files))
    table = table[~table["example_id"].isin(list(model_output.all_hidden(audit)))]
    if meta:
        table = table[table["example_id"].isin(database.matching(audit, meta))]
    if table.empty:
        return empty
    table = table.assign(decided=table["example_id"].isin(decisions.state_at(audit)["decided"]))
    grouped = table.groupby(["label", "suggested_label"], sort=True)["decided"].agg(["size", "sum"]).reset_index()
    grouped.columns = ["label", "suggestion", "suspects", "decided"]
    return grouped.sort_values("suspects", ascending=False, kind="stable").reset_index(drop=True)


@lru_cache(maxsize=4)
def _suspects(root: Path, name: str, order: queues.Order, split: str, _stamps: tuple[Any, ...]) -> pd.DataFrame:
    audit = database.audit_at(root)
    return queues.suspects(audit, audit.run(name), order, split)


def chart(found: pd.DataFrame) -> Chart:
    """Returns the chart with one square per pair; its area is the number of suspects."""
    names = sorted(set(found["label"]) | set(found["suggestion"]))
    place = {name: at for at, name in enumerate(names)}
    most = max(int(found["suspects"].max()), 1)
    hover = [
        f"{escaped(row.label)} → {escaped(row.suggestion)}<br>{count(int(row.suspects), 'suspect')}, "
        f"{int(row.decided):,} decided"
        for row in found.itertuples()
    ]
    marker = {
        "symbol": "square",
        "color": LABEL.colour,
        "sizemin": 3,
        "size": [LARGEST * (n / most) ** 0.5 for n in found["suspects"]],
    }
    figure = go.Figure(
        go.Scatter(
            x=[place[name] for name in found["suggestion"]],
            y=[place[name] for name in found["label"]],
            mode="markers",
            marker=marker,
            hovertext=hover,
            hoverinfo="text",
        )
    )
    ticks = {
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": [escaped(name, 16) for name in names],
    }
    figure.update_xaxes(title="suggested label", range=[-0.6, len(names) - 0.4], **ticks)
    figure.update_yaxes(title="label", range=[len(names) - 0.4, -0.6], **ticks)
    reading = (
        "Each square is a pair of given label (row) and suggested label (column). Its area is the number of "
        "suspects with this pair. Click a square to open their queue."
    )
    return Chart(apply_layout(figure, min(640, 120 + 30 * len(names))), reading)


def _open_picked(picked: Any, found: pd.DataFrame, shared: dict[str, Any]) -> None:
    points = picked.selection.points if picked else []
    if points:
        row = found.iloc[points[0]["point_index"]]
        page_frame.go("suspects", {key: value for key, value in (shared | _pair(row)).items() if value})


def _pair(row: Any) -> dict[str, str]:
    return {"class": row["label"], "suggested": row["suggestion"]}


def _table(found: pd.DataFrame, shared: dict[str, Any]) -> pd.DataFrame:
    links = [inputs.address("suspects", shared | _pair(row)) for _, row in found.iterrows()]
    return found.assign(queue=links)


def _columns() -> dict[str, Any]:
    return {
        "suspects": st.column_config.NumberColumn("suspects", format="localized"),
        "decided": st.column_config.NumberColumn("decided", format="localized"),
        "queue": st.column_config.LinkColumn("queue", display_text="open"),
    }
