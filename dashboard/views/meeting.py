"""/meeting: one item of the agenda at a time, in large type, for a team in a room or on a call.

Everybody who opens the page sees the lead's item. The lead moves between items with the arrow keys, counts votes and
records the outcome.
"""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from dashboard.auth.serving import serving
from dashboard.blinding import model_output, second_reader
from dashboard.meeting import meeting_screen
from dashboard.queries import database, decisions
from dashboard.style.formatting import command_line, count, quoted
from dashboard.widgets import grouping, inputs, page_frame
from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.queue.blinding import hidden_from_readers
from scoring.queue.order import together
from scoring.reviews import ReviewLog, meeting_agenda, meeting_minutes, meeting_outcomes, meetings


def show() -> None:
    """Shows the page."""
    shared = page_frame.current()
    log = decisions.open_log(shared.audit)
    open_one = meetings.current(log)
    if open_one is None:
        offer_to_start(log, shared)
    meeting_screen(None if open_one is None else open_one["number"])
    if open_one is not None:
        show_lead_controls(log, open_one)
    show_past(shared.audit, log)


def offer_to_start(log: ReviewLog, shared: page_frame.SidebarChoices) -> None:
    """Shows the agenda, and to a lead the button that opens a meeting."""
    st.subheader("Agenda", anchor=False)
    slices = inputs.switch("Least accurate slices", ("0", "3", "5", "10"), "slices", "5")
    among = database.matching(shared.audit, shared.meta) if shared.meta else None
    blind = ["test"] if second_reader.policy(shared.audit).is_blind else []
    hidden_ids = {
        *model_output.all_hidden(shared.audit),
        *hidden_from_readers(shared.audit, log),
    }  # followers see the lead's item
    items = meeting_agenda.agenda(log, shared.run, slices=int(slices), among=among, blind=blind, hidden=hidden_ids)
    if not items:
        return inputs.empty(
            "Nothing to discuss. There are no disputes, no flagged examples (key F in a grid) and no saved "
            "slices. This command finds slices:",
            command_line("slice", shared.audit),
        )
    items, groups = by_group(shared.audit, items)
    table = [
        {"#": at + 1, "what": one["title"], "why": one["why"], "example": one["example_id"], **groups[at]}
        for at, one in enumerate(items)
    ]
    st.dataframe(table, hide_index=True, placeholder=inputs.NONE, height="content" if len(table) <= 10 else 400)
    if not serving().identity.may("lead"):
        return None
    if st.button(
        f"Open a meeting on {count(len(items), 'item')}", icon=":material/groups:", key="start_meeting", type="primary"
    ):
        try:
            meetings.start(log, items, serving().identity.name())
        except HardlookError as error:
            st.error(quoted(str(error), longest=500))
        else:
            st.rerun()
    return None


def by_group(audit: Audit, items: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Returns the agenda sorted by the groups of the sidebar's column, and the group of each item."""
    grouped = page_frame.current_grouping()
    if grouped is None:
        return items, [{}] * len(items)
    members = grouping.group_by_example(audit, grouped)
    named = [None if one["kind"] == "slice" else members.get(one["example_id"]) for one in items]
    order = together(named)
    return [items[at] for at in order], [{grouped.column: named[at] or ""} for at in order]


def show_lead_controls(log: ReviewLog, meeting: dict[str, Any]) -> None:
    """Shows a lead the list of people present and the button that ends the meeting."""
    if not serving().identity.may("lead"):
        return
    with st.expander("Attendance and end of the meeting"):
        names = st.text_area(
            "Present (one name per line)",
            "\n".join(meeting["present"]),
            key="present",
            help="People who have this page open are added automatically when an outcome is recorded.",
        )
        with st.container(horizontal=True):
            if st.button("Save the names", key="keep_present"):
                meetings.be_present(log, names.splitlines())
                st.rerun()
            if st.button("End the meeting", icon=":material/stop:", key="end_meeting"):
                meetings.end(log)
                st.rerun()


def show_past(audit: Audit, log: ReviewLog) -> None:
    """Shows minutes of every meeting, precedents, and the mapping of classes that meetings decided."""
    past = meetings.all_meetings(log)
    if not past:
        return
    show_minutes(audit, log, past)
    show_precedents(log)
    show_class_changes(audit, log)


def show_minutes(audit: Audit, log: ReviewLog, past: list[dict[str, Any]]) -> None:
    """Shows the minutes of the last meetings, to download."""
    st.subheader("Minutes", anchor=False)
    with st.container(horizontal=True):
        for one in past[:10]:
            name = f"meeting-{one['number']}.md"
            st.download_button(
                f"Meeting {one['number']} · {one['started'][:10]}",
                meeting_minutes.minutes(log, one, audit.name),
                file_name=name,
                mime="text/markdown",
                on_click="ignore",
                icon=":material/download:",
                key=f"minutes_{one['number']}",
            )


def show_precedents(log: ReviewLog) -> None:
    """Shows the precedents that meetings set."""
    rules = meeting_outcomes.precedents(log)
    if rules:
        st.subheader("Precedents", anchor=False)
        st.caption(
            "A precedent is shown beside later examples that are similar in features, or that have the same "
            "label and outcome."
        )
        st.dataframe(
            [
                {
                    "precedent": one["text"],
                    "label": one["label"],
                    "outcome": one["new_label"] or one["verdict"],
                    "examples": ", ".join(one["examples"]),
                    "meeting": one["meeting"],
                }
                for one in rules
            ],
            hide_index=True,
            placeholder=inputs.NONE,
        )


def show_class_changes(audit: Audit, log: ReviewLog) -> None:
    """Shows which classes meetings merged or split."""
    mapping = meeting_outcomes.class_mapping(log, audit.classes)
    if mapping["changes"]:
        st.subheader("Class changes", anchor=False)
        st.dataframe(
            [
                {
                    "what": one["kind"],
                    "from": ", ".join(one["from"]),
                    "to": ", ".join(one["to"]),
                    "meeting": one["meeting"],
                    "by": one["by"],
                }
                for one in mapping["changes"]
            ],
            hide_index=True,
            placeholder=inputs.NONE,
        )
        st.download_button(
            "Class mapping as JSON",
            json.dumps(mapping, ensure_ascii=False, indent=2),
            file_name="class-mapping.json",
            mime="application/json",
            on_click="ignore",
            icon=":material/download:",
            key="class_mapping",
        )


show()
