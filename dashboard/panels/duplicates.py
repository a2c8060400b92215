"""Duplicates on /overview: exact copies, and near duplicates by a run's features. Each group opens in the grid.

Groups with conflicting labels come first, then groups across splits. Both lists follow the sidebar's metadata filters
(a group is listed if one of its members matches) and one choice of their own. Cost: the groups are read once per
version of the files.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.queries import database
from dashboard.queries.selection import Selection, source
from dashboard.routes.http import picture_url
from dashboard.style.formatting import command_line, count
from dashboard.widgets import inputs
from scoring.audit import Audit, Run
from scoring.data.duplicates import near_duplicates as group_near

MOST_ROWS = 1000
MOST_NEAR = 300
MOST_NAMED = 20
SHOW = ("all", "conflicting labels", "across splits")
WHICH = {"conflicting labels": "conflicting", "across splits": "across_splits"}


def show_duplicates(audit: Audit, run: Run | None, selection: Selection) -> None:
    """Shows exact duplicates, then near ones, that match the filters."""
    st.subheader("Duplicates", anchor=False)
    exact, near = database.duplicates(audit), None if run is None else near_groups(audit, run)
    which = SHOW[0]
    if len(exact) or (near is not None and len(near)):
        which = inputs.switch("Show", SHOW, "duplicates", SHOW[0], label_visibility="collapsed")
    show_exact(exact, which, audit, selection)
    if run is not None:
        show_near(near, which, audit, run, selection)


def show_exact(frame: pd.DataFrame, which: str, audit: Audit, selection: Selection) -> None:
    """Shows groups of examples with the same content."""
    if frame.empty:
        st.caption("There are no exact duplicates.")
        return
    shown = filter_groups(frame, which, audit, selection)
    st.markdown("**Exact duplicates** · " + groups_summary(frame, shown))
    if shown.empty:
        return
    table = shown.head(MOST_ROWS)
    table = table.assign(grid=[inputs.address("grid", {"same": f}) for f in table["fingerprint"]])
    st.dataframe(
        shorten_members(table)[["grid", "copies", "across_splits", "conflicting", "splits", "labels", "example_ids"]],
        hide_index=True,
        placeholder=inputs.NONE,
        height="content" if len(table) < 10 else 320,
        column_config=_columns(),
    )
    st.caption(
        "Exact duplicates have the same bytes or pixels; labels are not compared. Duplicates across splits "
        "leak test examples into train. In a group with conflicting labels, at least one label is wrong."
        + _first(shown, MOST_ROWS)
    )


def show_near(frame: pd.DataFrame | None, which: str, audit: Audit, run: Run, selection: Selection) -> None:
    """Shows groups of near duplicates with two images each."""
    if frame is None:
        return inputs.empty(
            "This run has no near duplicates yet. Near duplicates are, for example, brightened, re-encoded or "
            "slightly cropped copies. This command finds them:",
            command_line("score", audit, "--run", run.name, "--only", "near_duplicates"),
        )
    if frame.empty:
        st.caption("There are no near duplicates by the features of this run.")
        return None
    shown = filter_groups(frame, which, audit, selection)
    st.markdown("**Near duplicates by features** · " + groups_summary(frame, shown))
    if shown.empty:
        return None
    table = shown.head(MOST_NEAR)
    first = [ids[0] for ids in table["example_ids"]]
    table = table.assign(grid=[inputs.address("grid", {"near": one, "run": run.name}) for one in first])
    columns = ["grid", "copies", "across_splits", "conflicting", "splits", "labels", "example_ids"]
    if audit.media == "image":
        table = with_pictures(table, audit)
        columns[1:1] = ["one", "other"]
    st.dataframe(
        shorten_members(table)[columns],
        hide_index=True,
        placeholder=inputs.NONE,
        height="content" if len(table) < 5 else 400,
        row_height=64 if audit.media == "image" else None,
        column_config=_columns(),
    )
    st.caption(
        "Near duplicates differ in content but have nearly the same features: their distance is far below "
        "the distance to their ten nearest neighbours. Open a group to judge it. Near duplicates across "
        "splits leak test examples into train. If the examples of a group show the same thing, conflicting "
        "labels cannot all be right." + _first(shown, MOST_NEAR)
    )
    return None


def filter_groups(frame: pd.DataFrame, which: str, audit: Audit, selection: Selection) -> pd.DataFrame:
    """Returns the groups of that kind that have a member matching the metadata filters."""
    if which in WHICH:
        frame = frame[frame[WHICH[which]]]
    if selection.meta and len(frame):
        passing = database.matching(audit, selection.meta)
        frame = frame[[not passing.isdisjoint(ids) for ids in frame["example_ids"]]]
    return frame


def groups_summary(frame: pd.DataFrame, shown: pd.DataFrame) -> str:
    """Returns how many groups there are, of which kind, and how many are shown."""
    facts = [
        count(len(frame), "group"),
        f"{int(frame['conflicting'].sum()):,} with conflicting labels",
        f"{int(frame['across_splits'].sum()):,} across splits",
    ]
    return ", ".join(facts) + (f" · {len(shown):,} match the filters" if len(shown) < len(frame) else "")


def shorten_members(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with only the first members of each group, because a thousand copies would fill the page."""
    return table.assign(example_ids=[ids[:MOST_NAMED] for ids in table["example_ids"]])


def with_pictures(table: pd.DataFrame, audit: Audit) -> pd.DataFrame:
    """Returns the table with images of two members, of different labels or splits if possible."""
    pairs = [ids[:MOST_NAMED] for ids in table["example_ids"]]
    facts = database.details(audit, None, list(dict.fromkeys(one for ids in pairs for one in ids)))
    label, split, content = (facts[name].to_dict() for name in ("label", "split", "fingerprint"))

    def other(ids: list[str]) -> str:
        first = ids[0]
        return min(
            ids[1:] or ids,
            key=lambda one: (label[one] == label[first], split[one] == split[first], content[one] == content[first]),
        )

    def picture(one: str) -> str:
        return picture_url("thumb", one, content[one])

    return table.assign(one=[picture(ids[0]) for ids in pairs], other=[picture(other(ids)) for ids in pairs])


def near_groups(audit: Audit, run: Run) -> pd.DataFrame | None:
    """Returns the groups with their current labels; None if near duplicates were not computed."""
    files = database.stamp(run.near_duplicates_path), database.stamp(audit.examples_path)
    return None if None in files else _near_groups(*files)


@lru_cache(maxsize=4)
def _near_groups(members: database.Stamp, examples: database.Stamp) -> pd.DataFrame:
    some = database.sql(f"SELECT * FROM {source(members[0])}").to_pandas()
    names = "example_id, split, label, fingerprint, problem"
    within = f"example_id IN (SELECT example_id FROM {source(members[0])})"
    return group_near(some, database.sql(f"SELECT {names} FROM {source(examples[0])} WHERE {within}").to_pandas())


def near_duplicates_of(audit: Audit, run: Run | None, example_id: str, most: int = 100) -> list[str]:
    """Returns the members of an example's group of near duplicates, itself included; an empty list if it has none."""
    frame = None if run is None else near_groups(audit, run)
    if frame is None:
        return []
    return next((ids[:most] for ids in frame["example_ids"] if example_id in ids), [])


def _first(shown: pd.DataFrame, most: int) -> str:
    return f" The table shows the first {most:,} groups." if len(shown) > most else ""


def _columns() -> dict[str, Any]:
    return {
        "copies": st.column_config.NumberColumn("Copies", format="localized"),
        "one": st.column_config.ImageColumn("One", width="small"),
        "other": st.column_config.ImageColumn("Another", width="small"),
        "across_splits": st.column_config.CheckboxColumn("Across splits"),
        "conflicting": st.column_config.CheckboxColumn("Conflicting labels"),
        "splits": "Splits",
        "labels": "Labels",
        "example_ids": st.column_config.ListColumn("Examples", width="large"),
        "grid": st.column_config.LinkColumn("Grid", display_text="open"),
    }
