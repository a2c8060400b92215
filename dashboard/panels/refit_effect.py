"""The predicted effect of the corrections: starts `hardlook refit`, shows its progress, and shows its result.

Numbers are read from ``runs/<run>/refit.json`` (``scoring.corrections.effect.preview``). The panel always states what
was compared, on which examples, and whether the log has newer decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.auth.serving import serving
from dashboard.charts import slice_charts
from dashboard.charts.slice_charts import point_change
from dashboard.panels import jobs
from dashboard.presenters import influences
from dashboard.queries import database, decisions
from dashboard.style.formatting import count, number, percent, plain
from dashboard.widgets import inputs
from scoring.audit import Audit, Run
from scoring.audit.storage import read_json
from scoring.corrections.effect.conclusion import wanting

ALL = "all"
KINDS = {"slices": "slice ", "classes": "class "}
MOST_ROWS = 40
EXPLAINED = (
    "A preview of how the corrected training labels change the model, without a full training. Influence "
    "predicts the change of the loss. A refit of the last layer measures the accuracy with three label "
    "sets: the original labels, the reviewed labels, and an equal number of random edits (placebo). A "
    "gain of the placebo is not due to the review."
)


def show_effect(audit: Audit, run: Run | None) -> None:
    """Shows the button, the running job, and the last result."""
    st.subheader("Predicted effect of the corrections", anchor=False)
    st.caption(EXPLAINED)
    if run is None:
        return inputs.empty("audit.toml names no model, so the effect cannot be predicted.")
    lacks = influences.missing_embeddings(audit, run)
    if lacks:
        return inputs.empty(*lacks)
    url = serving().log_url
    hidden = () if url == audit.log_url else ("--log", url)
    jobs.show_job(audit, run, "Preview the effect", "refit", hidden=hidden)
    found = read_json(run.refit_path)
    if found is not None:
        show_result(audit, run, found)
    return None


def show_result(audit: Audit, run: Run, found: Mapping[str, Any]) -> None:
    """Shows what was compared, the result over all examples, then per slice or class."""
    st.markdown(comparison_text(found))
    warn_if_outdated(audit, run, found)
    rows = pd.DataFrame(found["groups"])
    whole = rows[rows["group"] == ALL].iloc[0]
    show_whole(whole)
    kind = inputs.switch("Groups", list(KINDS), "effect", "slices")
    st.caption(groups_note(kind))
    part = rows[rows["group"].str.startswith(KINDS[kind]) & (rows["n"] > 0)].head(MOST_ROWS)
    if part.empty:
        return inputs.empty(f"None of the evaluation examples is in one of the {kind}.")
    shown = pd.concat([rows[rows["group"] == ALL], part], ignore_index=True)
    left, right = st.columns([3, 2])
    with left:
        inputs.show_chart(slice_charts.accuracy_gains(shown), "gains")
    with right:
        inputs.show_chart(slice_charts.loss_changes(shown), "changes")
    with st.expander("Numbers"):
        st.dataframe(numbers(shown), hide_index=True, placeholder=inputs.NONE)
    return None


def comparison_text(found: Mapping[str, Any]) -> str:
    """Returns in one sentence what was compared, and on which examples."""
    edits, judged = found["edits"], found["judged_on"]
    changed = f"{count(edits['relabelled'], 'training label')} changed"
    removed = f" and {count(edits['removed'], 'example')} removed" if edits["removed"] else ""
    return (
        f"**{changed}{removed}**, out of {edits['train']:,}. Evaluated on **{count(judged['examples'], 'example')}**: "
        f"{plain(judged['how'])}. Placebo: {plain(found['placebo'])}."
    )


def groups_note(kind: str) -> str:
    """Returns why these slices differ from those of /slices, or how classes are assigned."""
    if kind == "slices":
        return (
            "These slices were found on the half of the test examples that is not used for evaluation. Their "
            "numbers therefore differ from those on the page Slices."
        )
    return "Classes by the best known label of the evaluation examples."


def warn_if_outdated(audit: Audit, run: Run, found: Mapping[str, Any]) -> None:
    """Warns if the log or the scores are newer than the preview."""
    since = len(decisions.open_log(audit).events(after=found["position"]))
    if since:
        inputs.warn(f"The log has {count(since, 'event')} since this preview. Run the preview again to include them.")
    made, embeddings = database.stamp(run.refit_path), database.stamp(run.influence_path)
    if made and embeddings and embeddings[1] > made[1]:
        inputs.warn("The run was scored again after this preview. Run the preview again.")


def show_whole(row: Mapping[str, Any]) -> None:
    """Shows the result over all evaluation examples: three accuracies, the gain with its interval, and the
    conclusion."""
    places = st.columns(4)
    for place, (name, title) in zip(
        places[:3],
        {"original": "Original labels", "reviewed": "Reviewed labels", "placebo": "Placebo"}.items(),
        strict=True,
    ):
        place.metric(f"{title}, accuracy", percent(row[name]))
    places[3].metric("Predicted change of loss", number(row["change"], "nats"))
    st.markdown(verdict(row))


def verdict(row: Mapping[str, Any]) -> str:
    """Returns the conclusion from the intervals.

    >>> row = {"gain": 0.02, "gain_low": 0.01, "gain_high": 0.03}
    >>> verdict(row | {"over_placebo": 0.02, "over_placebo_low": 0.01, "over_placebo_high": 0.03})[:53]
    '**The corrections help**: +2 points (95 % interval +1'
    """
    gain, low, high = (point_change(100 * row[name]) for name in ("gain", "gain_low", "gain_high"))
    interval = f"{gain} (95 % interval {low} to {high})"
    if row["gain_low"] > 0 and row["over_placebo_low"] > 0:
        return f"**The corrections help**: {interval}, more than an equal number of random edits."
    if row["gain_low"] > 0:
        return f"The accuracy rises ({interval}), but random edits may raise it as much."
    if row["gain_high"] < 0:
        return f"**The corrections harm**: {interval}. Check them again before you use them."
    wanted = f"; {wanting(row)} to show a change of this size" if row["gain"] else ""
    return f"The change is not significant on these examples: {interval} includes 0{wanted}."


def numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the numbers of the charts as a table."""
    return pd.DataFrame(
        {
            "group": rows["group"],
            "examples": rows["n"],
            **{name: [percent(value) for value in rows[name]] for name in ("original", "reviewed", "placebo")},
            "gain": [change_text(row, "gain") for row in rows.to_dict("records")],
            "over placebo": [change_text(row, "over_placebo") for row in rows.to_dict("records")],
            "predicted change of loss, nats": [number(value) for value in rows["change"]],
        }
    )


def change_text(row: Mapping[str, Any], name: str) -> str:
    """Returns a change with its interval."""
    mid, low, high = (point_change(100 * row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return f"{mid} ({low} to {high})".replace(" points", "")
