"""What a page starts from: the audit, the run and the metadata filters that the sidebar chose, or an empty state.

``app.py`` shares them before it runs a page; a page asks for what it needs and ends there, saying what to run, where
that does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from dashboard import controls, state
from dashboard.columns import ScoreColumn, stages_overlap
from dashboard.selection import MetaFilter
from scoring.audit import Audit, Run

KEY = "_view"


@dataclass(frozen=True)
class View:
    """The sidebar's choices."""

    audit: Audit
    run: Run | None
    meta: tuple[MetaFilter, ...]


def share(audit: Audit, run: Run | None, meta: tuple[MetaFilter, ...]) -> None:
    """Keep the sidebar's choices for the page that follows in the same script run."""
    st.session_state[KEY] = View(audit, run, meta)


def current() -> View:
    """The sidebar's choices; ends the page with what to run where the data was not read yet."""
    view: View = st.session_state[KEY]
    if not view.audit.examples_path.is_file():
        controls.empty("The data of this audit was not read yet. This command reads it and scores it:",
                       controls.command("score", view.audit))  # fmt: skip
        st.stop()
    return view


def scored() -> tuple[Audit, Run, tuple[MetaFilter, ...], list[ScoreColumn]]:
    """Audit, run, metadata filters and score columns; ends the page with what to run where there are none."""
    view = current()
    if view.run is None:
        controls.empty("audit.toml names no model yet: add a [run.<name>] table with model and checkpoints, then run",
                       controls.command("score", view.audit))  # fmt: skip
        st.stop()
    columns = state.score_columns(view.run)
    if not columns:
        controls.empty("Nothing is scored yet in this run. This command scores it; it can be stopped and goes on where "
                       "it was:", controls.command("score", view.audit, "--run", view.run.name))  # fmt: skip
        st.stop()
    return view.audit, view.run, view.meta, columns


def warn_about_stages(run: Run, column: ScoreColumn) -> None:
    """Say so where early and late share checkpoints."""
    n = stages_overlap(run.record())
    if n is not None and "stage" in column.steps:
        st.caption(f":material/info: This run has {n} checkpoints; with fewer than six, early and late share some, so the "
                   "stages are not independent.")  # fmt: skip
