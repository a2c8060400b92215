"""/reviews: the review log as a table, the progress of each reviewer, and the download of corrected labels."""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from dashboard.auth.serving import serving
from dashboard.blinding import second_reader
from dashboard.charts import common
from dashboard.panels import team
from dashboard.panels.effort import show_effort
from dashboard.panels.label_pairs import show_pairs
from dashboard.panels.refit_effect import show_effect
from dashboard.presenters.patch_download import packed_patches
from dashboard.queries import database, decisions
from dashboard.queries.selection import Selection
from dashboard.style.formatting import command_line, count, plain
from dashboard.widgets import grouping, inputs, page_frame
from scoring.audit import Audit
from scoring.corrections.label_patch import FORMATS
from scoring.reviews.event import ACTIONS
from scoring.reviews.verdicts import VERDICTS

if TYPE_CHECKING:
    from scoring.reviews import ReviewLog

MOST_ROWS = 5000
NAMES = {"csv": "CSV", "parquet": "Parquet"}
DATES = date(2000, 1, 1), date(2100, 1, 1)


def show() -> None:
    """Shows the page."""
    shared = page_frame.current()
    audit = shared.audit
    log = decisions.open_log(audit)
    events = log.events()
    if events.empty:
        team.show_assignments(audit, log, shared.run, shared.meta)
        show_pairs(audit, shared.run, shared.meta)
        return inputs.empty(
            "The review log is empty: there are no decisions yet. Open Suspects or Grid, and press ? there to "
            "list the keys."
        )
    show_progress(audit, log.decisions())
    show_groups(audit, shared.meta)
    team.show_disputes(audit, log, shared.run)
    team.show_agreement(log)
    team.show_assignments(audit, log, shared.run, shared.meta)
    events = second_reader.visible_events(audit, events, serving().identity.reviewer)
    show_log(audit, shared.meta, events, shared.run.name if shared.run else None)
    show_effort(audit, shared.run)
    show_pairs(audit, shared.run, shared.meta)
    show_effect(audit, shared.run)
    show_export(audit, log)
    return None


def show_progress(audit: Audit, current: pd.DataFrame) -> None:
    """Shows the decisions of each reviewer, as a table and per day."""
    st.subheader("Reviewers", anchor=False)
    table = decisions.progress(audit).reset_index().rename(columns={"index": "reviewer"})
    left, right = st.columns([3, 2])
    left.dataframe(table, hide_index=True, placeholder=inputs.NONE, column_config=_progress_columns())
    if len(current):
        days = current.assign(day=current["created_at"].dt.strftime("%Y-%m-%d"))
        with right:
            inputs.show_chart(
                common.decisions_per_day(days.groupby(["day", "reviewer"]).size().rename("n").reset_index()),
                "days",
            )


def _progress_columns() -> dict[str, Any]:
    numbers = {
        name: st.column_config.NumberColumn(name, format="localized")
        for name in ("decided", "relabelled", "unsure", "flagged")
    }
    last = st.column_config.DatetimeColumn("last (UTC)", format="YYYY-MM-DD HH:mm")
    seconds = st.column_config.NumberColumn(
        "median time, s", format="%.3g", help="Median time that an example is on screen before its decision"
    )
    return {"reviewer": "reviewer", **numbers, "last": last, "seconds": seconds}


def show_groups(audit: Audit, meta: tuple[Any, ...]) -> None:
    """Shows the progress of the review in each group of the metadata column chosen in the sidebar."""
    grouped = page_frame.current_grouping()
    if grouped is None:
        return
    st.subheader(f"By {plain(grouped.column)}", anchor=False)
    words = {VERDICTS[state].words if state in VERDICTS else state: state for state in decisions.PROGRESS_STATES}
    now = decisions.state_at(audit)
    st.dataframe(
        grouping.progress(audit, Selection(meta=meta), grouped, {word: now[key] for word, key in words.items()}),
        hide_index=True,
        placeholder=inputs.NONE,
    )
    grouping.explain(grouped)


def show_log(audit: Audit, meta: tuple[Any, ...], events: pd.DataFrame, run: str | None) -> None:
    """Shows the events, newest first, filtered by reviewer, action, verdict, class and time."""
    st.subheader("Log", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        reviewer = inputs.choose(
            "Reviewer", sorted(events["reviewer"].unique()), "reviewer", placeholder="All", width=180
        )
        action = inputs.choose("Action", ACTIONS, "action", placeholder="All", width=150)
        verdict = inputs.choose("Verdict", tuple(VERDICTS), "verdict", placeholder="All", width=150)
        class_name = inputs.pick_class(audit, "Class, old or new")
        since, until = (
            st.date_input(key.capitalize(), None, *DATES, key=key, bind="query-params", width=150)
            for key in ("since", "until")
        )
    found = filter_events(events, reviewer, action, verdict, class_name, since, until)
    if meta:
        found = found[found["example_id"].isin(database.matching(audit, meta))]
    if found.empty:
        inputs.empty(f"None of the {count(len(events), 'event')} matches these filters.")
        return
    st.dataframe(
        log_table(found.iloc[::-1].head(MOST_ROWS), run),
        hide_index=True,
        placeholder=inputs.NONE,
        height=420,
        column_config=_log_columns(),
    )
    shown = f" The table shows the newest {MOST_ROWS:,}." if len(found) > MOST_ROWS else ""
    st.caption(
        f"{count(len(found), 'event')} of {len(events):,}, newest first. Events are never changed or deleted; "
        f"an undo is a new event.{shown}"
    )


def filter_events(
    events: pd.DataFrame,
    reviewer: str | None = None,
    action: str | None = None,
    verdict: str | None = None,
    class_name: str | None = None,
    since: date | None = None,
    until: date | None = None,
) -> pd.DataFrame:
    """Returns the events that match all that is given; a class matches as the old or the new label, dates are whole
    days in UTC."""
    keep = pd.Series(True, index=events.index)
    for name, value in (("reviewer", reviewer), ("action", action), ("verdict", verdict)):
        keep &= True if value is None else (events[name] == value).fillna(False)
    if class_name is not None:
        several = pd.Series([class_name in labels for labels in events["labels"]], index=events.index)
        keep &= (
            (events["label"] == class_name).fillna(False) | (events["new_label"] == class_name).fillna(False) | several
        )
    if since is not None:
        keep &= events["created_at"] >= pd.Timestamp(since, tz="UTC")
    if until is not None:
        keep &= events["created_at"] < pd.Timestamp(until, tz="UTC") + pd.Timedelta(days=1)
    return events[keep.astype(bool)]


def log_table(events: pd.DataFrame, run: str | None) -> pd.DataFrame:
    """Returns the columns of the log that the table shows, with a link to each example."""
    return pd.DataFrame(
        {
            "time": events["created_at"],
            "reviewer": events["reviewer"],
            "action": events["action"],
            "example": [inputs.address("grid", {"example": example, "run": run}) for example in events["example_id"]],
            "label": events["label"].fillna(""),
            "verdict": events["verdict"].fillna(""),
            "new label": events["new_label"].fillna(""),
            "labels": [", ".join(names) for names in events["labels"]],
            "issues": [", ".join(names) for names in events["issues"]],
            "note": events["note"].fillna(""),
            "seconds": events["seconds"],
            "position": events["position"],
        }
    )


def _log_columns() -> dict[str, Any]:
    return {
        "time": st.column_config.DatetimeColumn("time (UTC)", format="YYYY-MM-DD HH:mm:ss"),
        "example": st.column_config.LinkColumn("example", display_text=r"example=([^&]*)"),
        "seconds": st.column_config.NumberColumn("seconds", format="%.3g"),
        "note": st.column_config.TextColumn("note", width="medium"),
    }


def show_export(audit: Audit, log: ReviewLog) -> None:
    """Shows the download of corrected labels, one patch per split, made on request."""
    st.subheader("Corrected labels", anchor=False)
    st.caption(
        "One label patch per split. The policy in audit.toml says which examples are kept, relabelled, "
        "excluded or sent to a second reader. Other people's answers that wait for a second reader are not "
        "included. Apart from that, the download equals the result of this command:"
    )
    st.code(command_line("export", audit), language="bash")
    with st.container(horizontal=True):
        for fmt in FORMATS:
            st.download_button(
                f"Corrected labels as {NAMES[fmt]}",
                partial(packed_patches, audit, log, fmt),
                file_name=f"patches-{fmt}.zip",
                mime="application/zip",
                on_click="ignore",
                icon=":material/download:",
                key=f"export_{fmt}",
            )


show()
