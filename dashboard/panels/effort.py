"""The panel on review progress: when to stop, the estimates that this rests on, and a comparison of the reviewers.

All numbers come from ``scoring.queue.estimates.effort``. They are cached per position of the log.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard.auth.serving import serving
from dashboard.charts.common import Chart, apply_layout
from dashboard.queries import database, decisions
from dashboard.queries.selection import Selection
from dashboard.style.colours import DECIDED, LABEL, NEUTRAL, WRONG
from dashboard.style.formatting import count, escaped, number, percent, percent_interval, plain
from dashboard.widgets import inputs
from scoring.audit import SPLITS, Audit, Run
from scoring.queue.estimates import Effort, effort
from scoring.queue.estimates.intervals import Estimate

EXPLAINED = (
    "Controls are random examples that are decided without model output. They are needed to estimate how many wrong "
    "labels the ranking misses. The upper bound is valid at every time, however often you look."
)


def show_effort(audit: Audit, run: Run | None) -> None:
    """Shows for one split how many label errors remain and when to stop."""
    st.subheader("Review progress and remaining label errors", anchor=False)
    st.caption(EXPLAINED)
    there = database.counts(audit, Selection(), ["split"])
    labelled = set(there.loc[there["labelled"] > 0, "split"])
    splits = [split for split in SPLITS if split in labelled]
    if not splits:
        return inputs.empty("No split has labels, so there are no label errors to estimate.")
    split = inputs.switch("Split", splits, "effort_split", splits[0])
    found = effort_estimates(audit, run, split)
    st.markdown(f"**{plain(found.sentence)}**")
    if not found.decided:
        return None
    left, right = st.columns([3, 2])
    with left:
        inputs.show_chart(stopping_chart(found), "stopping")
    right.dataframe(estimates_table(found), hide_index=True, placeholder=inputs.NONE)
    right.caption(counting_rule(found))
    if len(found.by_rank):
        inputs.show_chart(yield_chart(found.by_rank), "yield")
    with st.expander("Numbers by reviewer and class"):
        st.dataframe(reviewers_table(found.readers), hide_index=True, placeholder=inputs.NONE)
        st.caption(
            "Agreement: the share of a reviewer's shared examples on which all reviewers agree. Overturned: the "
            "adjudication differs from the reviewer's decision."
        )
    return None


def effort_estimates(audit: Audit, run: Run | None, split: str) -> Effort:
    """Returns the estimates for one split at the log's present position."""
    return _effort_estimates(
        audit.root,
        run.name if run else None,
        split,
        serving().log_url,
        decisions.last_position(audit),
        database.stamp(audit.config_path),
        database.stamp(audit.examples_path),
    )


@lru_cache(maxsize=8)
def _effort_estimates(root: Path, run: str | None, split: str, url: str, position: int, *_stamps: object) -> Effort:
    audit = database.audit_at(root)
    return effort(audit, audit.run(run) if run else None, decisions.open_log(audit), split)


def counting_rule(found: Effort) -> str:
    """Returns which controls count, and how undecided or disputed ones are counted."""
    return (
        f"Controls: {found.drawn:,} drawn, {found.counted:,} used in the estimate, {found.waiting:,} not decided yet, "
        f"{found.unblinded:,} decided with model output on screen. Controls that are unsure, disputed or not blind "
        "count as right in lower bounds and as wrong in upper bounds; the estimate itself excludes them. The verdict "
        "“several” counts as wrong if the given label is not among the named ones."
    )


def estimates_table(found: Effort) -> pd.DataFrame:
    """Returns the estimates as a table of text: what, estimate, interval."""

    def rate(name: str, value: Estimate) -> tuple[str, str, str]:
        return name, percent(value.value), percent_interval(value.low, value.high)

    def between(value: Estimate) -> str:
        return number(None) if math.isnan(value.low) else f"{number(value.low)} to {number(value.high)}"

    left = found.remaining
    rows = [
        ("wrong labels found", count(found.found), ""),
        ("wrong labels remaining", number(left.value), f"{count(int(left.low))} to {count(int(left.high))}"),
        rate("label-error rate", found.rate),
    ]
    rows += [rate("… with groups as units", found.clustered)] if found.clustered is not None else []
    rows += [
        rate("… corrected for reviewer errors", found.corrected),
        ("gain over random order", number(found.gain.value), between(found.gain)),
    ]
    return pd.DataFrame(rows, columns=["what", "estimate", "95 % interval"])


def reviewers_table(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the numbers per reviewer and class with the page's column names."""
    return table.rename(columns={"label": "class", "seconds": "median time, s", "shared": "shared with others"})


def stopping_chart(found: Effort) -> Chart:
    """Returns the chart of remaining and found wrong labels and the goal, over the decisions."""
    figure, bounded = go.Figure(), found.history[found.history["controls"] > 0]
    line = {"color": LABEL.colour, "width": 2.5}
    hover = "after %{x:,} decisions: at most %{y:,} wrong labels remain<extra></extra>"
    figure.add_scatter(
        x=bounded["decisions"], y=bounded["low"], mode="lines", line={"width": 0}, showlegend=False, hoverinfo="skip"
    )
    figure.add_scatter(
        x=bounded["decisions"],
        y=bounded["high"],
        mode="lines",
        line=line,
        name="remaining, upper bound",
        fill="tonexty",
        fillcolor="rgba(0,114,178,0.15)",
        hovertemplate=hover,
    )
    figure.add_scatter(
        x=found.history["decisions"],
        y=found.history["found"],
        mode="lines",
        name="found so far",
        line={"color": DECIDED.colour, "width": 2, "dash": "dot"},
        hovertemplate="after %{x:,} decisions: %{y:,} found<extra></extra>",
    )
    end = [0, max(found.decided, 1)]
    figure.add_scatter(
        x=end,
        y=[found.allowed] * 2,
        mode="lines",
        name=f"goal: fewer than {found.allowed:,}",
        line={"color": WRONG.colour, "width": 2, "dash": "dash"},
        hoverinfo="skip",
    )
    apply_layout(figure, 320)
    figure.update_xaxes(title="decisions", rangemode="tozero")
    figure.update_yaxes(title="wrong labels", rangemode="tozero")
    return Chart(
        figure,
        "The solid line is an upper bound on the wrong labels that remain. It holds at all times at once "
        f"with {percent(found.plan.confidence)} confidence. Stop when it is below the dashed line, your goal.",
    )


def yield_chart(by_rank: pd.DataFrame) -> Chart:
    """Returns the chart of the share of wrong labels among every hundred suspects, with that of random examples."""
    figure = go.Figure()
    names = [f"{first:,}–{last:,}" for first, last in zip(by_rank["first"], by_rank["last"], strict=True)]
    ends = [f"{last:,}" for last in by_rank["last"]]
    figure.add_bar(
        x=ends,
        y=100 * by_rank["rate"],
        marker={"color": LABEL.colour},
        name="suspects",
        error_y={
            "array": 100 * (by_rank["high"] - by_rank["rate"]),
            "thickness": 1.5,
            "width": 3,
            "color": NEUTRAL.colour,
            "arrayminus": 100 * (by_rank["rate"] - by_rank["low"]),
        },
        hovertext=[f"{escaped(name)}: {found:,} wrong" for name, found in zip(names, by_rank["found"], strict=True)],
        hoverinfo="text",
    )
    figure.add_scatter(
        x=ends,
        y=100 * by_rank["chance"],
        mode="lines",
        name="random examples",
        line={"color": NEUTRAL.colour, "dash": "dash"},
        hoverinfo="skip",
    )
    apply_layout(figure, 260)
    figure.update_xaxes(title="suspects in the order of review, up to", type="category")
    figure.update_yaxes(title="wrong labels (%)", rangemode="tozero")
    return Chart(
        figure,
        "Each bar is the share of wrong labels among a hundred suspects, with its exact 95 % interval. At "
        "the height of the dashed line, the ranking is no better than a random order.",
    )
