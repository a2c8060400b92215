"""The team panel of /reviews: assignments, disputes for the lead, and inter-annotator agreement.

The numbers come from ``scoring.queue.assignments`` and ``scoring.reviews.annotator_agreement``. This panel checks that
only a lead writes assignments and adjudications.
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
from scoring.reviews import ReviewLog, annotator_agreement, meeting_agenda, meeting_minutes, meetings
from scoring.reviews.verdicts import VERDICTS, verdicts_with_field

if TYPE_CHECKING:
    from scoring.reviews.event import Event

AGREEMENT = {
    "n": st.column_config.NumberColumn("read by two or more", format="localized"),
    "agreed": st.column_config.NumberColumn("agreed", format="localized"),
    "percent": st.column_config.NumberColumn("agreed, %", format="%.3g"),
    "alpha": st.column_config.NumberColumn(
        "alpha", format="%.2f", help="Krippendorff's alpha, nominal: 1 perfect, 0 chance"
    ),
    "right": st.column_config.NumberColumn("“right”", format="%.2f", help="Share of decisions that the label is right"),
    "rare": None,
    "no_alpha": None,
}


def show_agreement(log: ReviewLog) -> None:
    """Shows agreement overall, per pair and per class, with the warning about chance-corrected figures."""
    table = log.decisions()
    whole = annotator_agreement.overall(table)
    if not whole["n"]:
        return
    st.subheader("Agreement", anchor=False)
    alpha = f" ({whole['no_alpha']})" if whole["alpha"] is None else f", Krippendorff's alpha {whole['alpha']:.2f}"
    st.markdown(
        f"{count(int(whole['n']), 'example')} were read by two or more people. All readers agree on "
        f"{whole['percent']:.3g} % of them{alpha}."
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
    """Shows every dispute with all answers; a lead adjudicates one here, or many in a meeting."""
    consensus = log.consensus()
    disputed = consensus[consensus["status"] == "disputed"]
    waiting = second_reader.waiting(audit)
    if disputed.empty and not waiting:
        return
    st.subheader("Disputes", anchor=False)
    st.caption(
        f"{count(len(disputed), 'dispute')} to adjudicate · {count(len(waiting), 'example')} waiting for a "
        "second reader."
    )
    if disputed.empty:
        return
    answers = log.decisions()
    answers = answers[answers["example_id"].isin(disputed["example_id"])].sort_values(["example_id", "position"])
    st.dataframe(
        [
            {
                "example": inputs.address("grid", {"example": one.example_id, "run": run.name if run else None}),
                "label": one.label,
                "reviewer": one.reviewer,
                "answer and reason": meeting_minutes.answer_text(one),
            }
            for one in answers.itertuples()
        ],
        hide_index=True,
        placeholder=inputs.NONE,
        column_config={"example": st.column_config.LinkColumn("example", display_text=r"example=([^&]*)")},
    )
    if serving().identity.may("lead"):
        _by_keyboard(log)
        _settle(audit, log, answers)


def _by_keyboard(log: ReviewLog) -> None:
    """Shows a button that opens a meeting on the disputes alone, where they are adjudicated by keyboard."""
    items = [one for one in meeting_agenda.agenda(log, None, slices=0) if one["kind"] == "dispute"]
    going = meetings.current(log) is not None
    label = "Continue the open meeting" if going else f"Adjudicate {count(len(items), 'dispute')} by keyboard"
    if not st.button(
        label,
        icon=":material/keyboard:",
        key="settle_by_keys",
        type="primary",
        help="Arrow keys move to the next dispute. Enter opens the outcome form, a digit chooses an outcome, "
        "Ctrl+Enter records it.",
    ):
        return
    try:
        if not going:
            meetings.start(log, items, serving().identity.name())
    except HardlookError as error:
        st.error(quoted(str(error), longest=500))
    else:
        page_frame.go("meeting", {})


def _settle(audit: Audit, log: ReviewLog, answers: Any) -> None:
    """Shows the form for the adjudication of one dispute, below all answers."""
    with st.expander("Adjudicate one dispute here"):
        example = st.selectbox("Example", answers["example_id"].drop_duplicates(), key="settle")
        for one in answers[answers["example_id"] == example].itertuples():
            st.text(f"{one.reviewer}: {meeting_minutes.answer_text(one)}")
        kinds = [name for name, kind in VERDICTS.items() if kind.label_is != "open" and kind.takes != "labels"]
        verdict = st.radio(
            "Verdict", kinds, format_func=lambda name: VERDICTS[name].words, horizontal=True, key="ruling"
        )
        new_label = (
            st.selectbox("Class", audit.classes, key="ruling_class")
            if verdict in verdicts_with_field("new_label")
            else None
        )
        note = st.text_area("Reason", key="ruling_note", max_chars=10_000)
        if st.button("Adjudicate", type="primary", key="settle_now"):
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


def _write(log: ReviewLog, events: list[Any]) -> None:
    """Writes a lead's events; refused here unless the visitor is a lead, whatever the page showed."""
    if not serving().identity.may("lead"):
        st.error("Only a lead of this audit can do this.")
        return
    try:
        log.append(events)
    except HardlookError as error:
        st.error(quoted(str(error), longest=500))
    else:
        st.rerun()


def show_assignments(audit: Audit, log: ReviewLog, run: Run | None, meta: tuple[Any, ...]) -> None:
    """Shows the assignments; a lead assigns more by class, slice, share and the sidebar's filters."""
    table = assignments.workload(log)
    leads = serving().identity.may("lead") and not serving().identity.alone
    if table.empty and not leads:
        return
    st.subheader("Assignments", anchor=False)
    if not table.empty:
        st.dataframe(table, hide_index=True, placeholder=inputs.NONE, width=500)
    if leads:
        _assign(audit, log, run, meta)


def _assign(audit: Audit, log: ReviewLog, run: Run | None, meta: tuple[Any, ...]) -> None:
    with st.expander("Assign examples"), st.form("assign", border=False):
        names = st.text_input(
            "To",
            key="assign_to",
            placeholder="ana, ben=2",
            help="Names. A weight such as ben=2 assigns twice as many examples.",
        )
        split = st.selectbox("Split", ["train", "test", "pool"], key="assign_split")
        class_name = st.selectbox("Class", audit.classes, index=None, placeholder="All", key="assign_class")
        slicings = run.slicing_names() if run else []
        slice_of = st.text_input(
            "Slice", key="assign_slice", placeholder=f"{slicings[0]}:0" if slicings else "no saved slices"
        )
        st.caption(
            "The metadata filters in the sidebar apply as well."
            if meta
            else "Metadata filters in the sidebar would apply here too."
        )
        if not st.form_submit_button("Assign"):
            return
    try:
        ids = assignments.chosen(
            audit, split=split, class_name=class_name, slice_of=slice_of or None, run=run.name if run else None
        )
        matching = database.matching(audit, meta) if meta else set(ids)
        dealt = assignments.distribute(
            [one for one in ids if one in matching], assignments.parse_shares(names), audit.seed
        )
        if not dealt:
            raise HardlookError(
                "no example matches these choices, so nothing was assigned; choose another split, class, slice or "
                "filter"
            )
    except HardlookError as error:
        st.error(quoted(str(error), longest=500))
        return
    client = f"assign {secrets.token_hex(8)}"
    _write(log, assignments.assignment_events(dealt, serving().identity.name(), client))
