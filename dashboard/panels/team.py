"""The team on /reviews: who has which work, disputes for the lead, how far people agree.

Thin: the numbers come from ``scoring.queue.assignments`` and ``scoring.reviews.annotator_agreement``; a lead's acts are
checked by role here, where they are written.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard.auth.serving import serving
from dashboard.blinding import second_reader
from dashboard.queries import database
from dashboard.style.formatting import count, quoted
from dashboard.widgets import inputs, page_frame
from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.queue import assignments
from scoring.reviews import ReviewLog, annotator_agreement, meetings
from scoring.reviews.verdicts import VERDICTS, verdicts_with_field

if TYPE_CHECKING:
    from scoring.reviews.event import Event

AGREEMENT = {
    "n": st.column_config.NumberColumn("read twice", format="localized"),
    "agreed": st.column_config.NumberColumn("agreed", format="localized"),
    "percent": st.column_config.NumberColumn("agreed, %", format="%.3g"),
    "alpha": st.column_config.NumberColumn(
        "alpha", format="%.2f", help="Krippendorff's alpha, nominal: 1 perfect, 0 chance"
    ),
    "right": st.column_config.NumberColumn("“right”", format="%.2f", help="Share of answers that the label is right"),
    "rare": None,
    "no_alpha": None,
}


def show_agreement(log: ReviewLog) -> None:
    """Agreement overall, per pair and per class, with the warning about chance-corrected figures."""
    table = log.decisions()
    whole = annotator_agreement.overall(table)
    if not whole["n"]:
        return
    st.subheader("Agreement", anchor=False)
    alpha = f" ({whole['no_alpha']})" if whole["alpha"] is None else f", Krippendorff's alpha {whole['alpha']:.2f}"
    st.markdown(
        f"Of {count(int(whole['n']), 'example')} read by two or more people, {whole['percent']:.3g} % got one "
        f"answer{alpha}."
    )
    if whole["rare"]:
        inputs.warn(annotator_agreement.RARE)
    left, right = st.columns(2)
    left.dataframe(
        annotator_agreement.by_pair(table), hide_index=True, placeholder=inputs.NONE, column_config=AGREEMENT
    )
    right.dataframe(
        annotator_agreement.by_class(table),
        hide_index=True,
        placeholder=inputs.NONE,
        column_config=AGREEMENT,
        height=220,
    )


def show_disputes(audit: Audit, log: ReviewLog, run: Run | None) -> None:
    """Every dispute with all reasons; a lead settles one here, or many in a meeting."""
    consensus = log.consensus()
    disputed = consensus[consensus["status"] == "disputed"]
    waiting = second_reader.waiting(audit)
    if disputed.empty and not waiting:
        return
    st.subheader("Disputes", anchor=False)
    st.caption(
        f"{count(len(disputed), 'dispute')} to settle · {count(len(waiting), 'example')} waiting for a second reader."
    )
    if disputed.empty:
        return
    said = log.decisions()
    said = said[said["example_id"].isin(disputed["example_id"])].sort_values(["example_id", "position"])
    st.dataframe(
        [
            {
                "example": inputs.address("grid", {"example": one.example_id, "run": run.name if run else None}),
                "label": one.label,
                "reviewer": one.reviewer,
                "answer and reason": meetings.answer_text(one),
            }
            for one in said.itertuples()
        ],
        hide_index=True,
        placeholder=inputs.NONE,
        column_config={"example": st.column_config.LinkColumn("example", display_text=r"example=([^&]*)")},
    )
    if serving().identity.may("lead"):
        _by_keyboard(log)
        _settle(audit, log, said)


def _by_keyboard(log: ReviewLog) -> None:
    """One button to the screen on which disputes are settled by keys, one after the other: a meeting on them alone."""
    items = [one for one in meetings.agenda(log, None, slices=0) if one["kind"] == "dispute"]
    going = meetings.current(log) is not None
    label = "Go on with the open meeting" if going else f"Settle {count(len(items), 'dispute')} by keys"
    if not st.button(
        label,
        icon=":material/keyboard:",
        key="settle_by_keys",
        type="primary",
        help="Arrows lead from one to the next, Enter opens the outcome, digits choose it, Ctrl+Enter records it.",
    ):
        return
    try:
        if not going:
            meetings.start(log, items, serving().identity.name())
    except HardlookError as error:
        st.error(quoted(str(error), longest=500))
    else:
        page_frame.go("meeting", {})


def _settle(audit: Audit, log: ReviewLog, said: Any) -> None:
    """The lead's ruling on one dispute, with both reasons in view."""
    with st.expander("Settle one here"):
        example = st.selectbox("Example", said["example_id"].drop_duplicates(), key="settle")
        for one in said[said["example_id"] == example].itertuples():
            st.text(f"{one.reviewer}: {meetings.answer_text(one)}")
        kinds = [name for name, kind in VERDICTS.items() if kind.label_is != "open" and kind.takes != "labels"]
        verdict = st.radio("It is", kinds, format_func=lambda name: VERDICTS[name].words, horizontal=True, key="ruling")
        new_label = (
            st.selectbox("Class", audit.classes, key="ruling_class")
            if verdict in verdicts_with_field("new_label")
            else None
        )
        note = st.text_area("Reason", key="ruling_note", max_chars=10_000)
        if st.button("Settle", type="primary", key="settle_now"):
            row = database.details(audit, None, [example]).iloc[0]
            _write(log, [_ruling(example, row, verdict, new_label, note)])


def _ruling(example: str, row: Any, verdict: str, new_label: str | None, note: str) -> Event:
    from scoring.reviews.event import Event

    return Event(
        client=f"reviews {secrets.token_hex(8)}",
        seq=1,
        example_id=example,
        reviewer=serving().identity.name(),
        action="adjudicate",
        verdict=verdict,
        new_label=new_label,
        note=note or None,
        label=row["label"],
        fingerprint=row["fingerprint"],
    )


def _write(log: ReviewLog, events: list) -> None:
    """A lead's events; refused to anybody else here, whatever the page showed."""
    if not serving().identity.may("lead"):
        st.error("Only a lead of this audit does that.")
        return
    try:
        log.append(events)
    except HardlookError as error:
        st.error(quoted(str(error), longest=500))
    else:
        st.rerun()


def show_assignments(audit: Audit, log: ReviewLog, run: Run | None, meta: tuple) -> None:
    """Who has how much; a lead gives more, by class, slice, share and the sidebar's filters."""
    table = assignments.workload(log)
    leads = serving().identity.may("lead") and not serving().identity.alone
    if table.empty and not leads:
        return
    st.subheader("Assignments", anchor=False)
    if not table.empty:
        st.dataframe(table, hide_index=True, placeholder=inputs.NONE, width=500)
    if leads:
        _assign(audit, log, run, meta)


def _assign(audit: Audit, log: ReviewLog, run: Run | None, meta: tuple) -> None:
    with st.expander("Assign examples"), st.form("assign", border=False):
        names = st.text_input(
            "To", key="assign_to", placeholder="ana, ben=2", help="Names, with weights to deal out by share"
        )
        split = st.selectbox("Split", ["train", "test", "pool"], key="assign_split")
        class_name = st.selectbox("Class", audit.classes, index=None, placeholder="All", key="assign_class")
        slicings = run.slicing_names() if run else []
        slice_of = st.text_input(
            "Slice", key="assign_slice", placeholder=f"{slicings[0]}:0" if slicings else "none kept"
        )
        st.caption("The sidebar's filters by metadata count as well." if meta else "Filter by metadata in the sidebar.")
        if not st.form_submit_button("Assign"):
            return
    try:
        ids = assignments.chosen(
            audit, split=split, class_name=class_name, slice_of=slice_of or None, run=run.name if run else None
        )
        kept = database.matching(audit, meta) if meta else set(ids)
        dealt = assignments.deal([one for one in ids if one in kept], assignments.parse_shares(names), audit.seed)
        if not dealt:
            raise HardlookError("no example matches; nothing was assigned")
    except HardlookError as error:
        st.error(quoted(str(error), longest=500))
        return
    client = f"assign {secrets.token_hex(8)}"
    _write(log, assignments.assignment_events(dealt, serving().identity.name(), client))
