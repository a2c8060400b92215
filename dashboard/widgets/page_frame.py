"""What every page starts with: the audit, the run, the metadata filters and the grouping chosen in the sidebar.

``app.py`` stores them before it runs a page. A page requests what it needs. If that does not exist, the page ends with
the command that creates it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import streamlit as st

from dashboard.pages import find_page
from dashboard.queries import database
from dashboard.queries.score_columns import ScoreColumn, stages_overlap
from dashboard.queries.selection import META, MetaFilter
from dashboard.style.formatting import command_line, plain
from dashboard.widgets import browser_history, grouping, inputs
from scoring.audit import Audit, Run
from scoring.audit.under_way import what_is_under_way

KEY = "_view"
PAGE = "_page"
PENDING = "_going"
PENDING_STAGE = "go"
SHARED_KEYS = ("_", "run", "filter", grouping.KEY, META)
"""Keys that every page shares: internal ones, and the sidebar's widgets."""


@dataclass(frozen=True)
class SidebarChoices:
    """The sidebar's choices."""

    audit: Audit
    run: Run | None
    meta: tuple[MetaFilter, ...]
    group: str | None = None
    """The metadata column by which pages group, without ``META``."""


def open_page(page: str) -> None:
    """Deletes the widget values of the previous page. Pages use the same parameters (score, class, page) with
    different defaults, and Streamlit would pass the value of one page's widget to the widget of that name on the
    next page."""
    if st.session_state.get(PAGE, page) != page:
        for key in [key for key in st.session_state if isinstance(key, str) and not key.startswith(SHARED_KEYS)]:
            del st.session_state[key]
        st.session_state[PAGE] = page
        restore_after_back()
    st.session_state[PAGE] = page
    if page != "grid" and browser_history.OPENS in st.query_params:
        del st.query_params[browser_history.OPENS]  # Back leaves parameters without a widget in the address
    apply_pending_parameters()


def restore_after_back() -> None:
    """Restores the address's own parameters at Back and Forward, where Streamlit drops some of them."""
    parameters = browser_history.parameters_after_back()
    if parameters and PENDING_STAGE not in parameters and set(parameters) - set(st.query_params):
        st.session_state[PENDING] = parameters
        st.query_params.from_dict({PENDING_STAGE: "2"})
        st.rerun()


def go(page: str, parameters: Mapping[str, Any]) -> NoReturn:
    """Opens another page of this session at an address with these parameters."""
    st.session_state[PENDING] = dict(parameters)
    st.switch_page(f"views/{find_page(page).script}", query_params={PENDING_STAGE: "1"})


def apply_pending_parameters() -> None:
    """Writes the parameters that ``go`` stored into the address, before any widget reads them.

    Streamlit does not let a script write a parameter that a widget is bound to, and the widgets of the previous page
    are bound until a run without them has ended. The first run therefore only ends, the second writes the parameters,
    and the third shows the page.
    """
    stage = st.query_params.get(PENDING_STAGE)
    if stage == "1":
        st.query_params.from_dict({PENDING_STAGE: "2"})
        st.rerun()
    elif stage is not None:
        st.query_params.from_dict(st.session_state.pop(PENDING, {}))
        st.rerun()


def store_choices(audit: Audit, run: Run | None, meta: tuple[MetaFilter, ...], group: str | None) -> None:
    """Stores the sidebar's choices for the page in the same script run."""
    st.session_state[KEY] = SidebarChoices(audit, run, meta, group)


def current_grouping(most: int = grouping.MOST) -> grouping.Grouping | None:
    """Returns the groups of the column chosen in the sidebar, up to ``most``; None if none is chosen."""
    view: SidebarChoices = st.session_state[KEY]
    return grouping.groups_of_column(view.audit, view.group, most)


def current() -> SidebarChoices:
    """Returns the sidebar's choices. If the data was not read yet, ends the page with the command that reads it."""
    if show_command_for_unread_data():
        st.stop()
    return st.session_state[KEY]


def show_command_for_unread_data() -> bool:
    """Shows the command that reads the data if it was not read yet. Returns whether it was not."""
    view: SidebarChoices = st.session_state[KEY]
    unread = not view.audit.examples_path.is_file()
    if unread:
        inputs.empty(
            "The data of this audit has not been read yet. This command reads and scores it:",
            command_line("score", view.audit),
        )
    return unread


def scored_run() -> tuple[Audit, Run, tuple[MetaFilter, ...], list[ScoreColumn]]:
    """Returns audit, run, metadata filters and score columns. If there are none, ends the page with the command that
    computes them."""
    view = current()
    if view.run is None:
        inputs.empty(
            "audit.toml names no model yet. For a PyTorch model, add a [run.<name>] table with model and "
            "checkpoints to audit.toml and run the first command. For any other model, import its predictions "
            "with the second command:",
            command_line("score", view.audit)
            + "\n"
            + command_line("import-predictions", view.audit, "predictions.csv"),
        )
        st.stop()
    show_under_way(view.run)
    columns = database.score_columns(view.run)
    if not columns:
        inputs.empty(
            "This run has no scores yet. This command computes them. It can be stopped and continues where it stopped:",
            command_line("score", view.audit, "--run", view.run.name),
        )
        st.stop()
    return view.audit, view.run, view.meta, columns


def show_under_way(run: Run | None) -> None:
    """Shows what a command is computing for this run now, if one is."""
    told = what_is_under_way(run) if run else None
    if told:
        st.caption(f":material/hourglass_top: {plain(told)}. Scores that are done are shown already.")


def warn_about_stages(run: Run, column: ScoreColumn) -> None:
    """Warns if the stages early and late share checkpoints."""
    n = stages_overlap(run.record())
    if n is not None and "stage" in column.steps:
        st.caption(
            f":material/info: This run has {n} checkpoints. With fewer than six, the stages early and late share "
            "checkpoints, so they are not independent."
        )
