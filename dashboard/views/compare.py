"""/compare: scores compared with each other.

Shown are their rank correlation, the overlap of their tops, their stability between runs, and how well they find wrong
labels and out-of-distribution examples.
"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from dashboard.blinding import model_output
from dashboard.panels.comparison import known_errors, ood, score_pairs, stability
from dashboard.queries import database, score_frames
from dashboard.queries.score_columns import ScoreColumn
from dashboard.queries.selection import Selection
from dashboard.style.formatting import command_line, count, plain
from dashboard.widgets import inputs, page_frame
from scoring.audit import Audit, Run

SHOW = ("agreement", "overlap", "stability", "truth", "out of distribution")
METHODS = ("Spearman", "Kendall")
VARIANTS = ("one of each", "all")
MOST_NAMED = 8


def show() -> None:
    """Shows the page."""
    audit, run, meta, columns = page_frame.scored_run()
    with (bar := st.container(horizontal=True, vertical_alignment="bottom")):
        what = inputs.switch("Show", SHOW, "show", SHOW[0])
    if what == "out of distribution":
        return ood.show_ood(audit, run)
    with bar:
        split = inputs.pick_split(audit, "train")
        class_name = inputs.pick_class(audit)
        with st.popover("More", icon=":material/tune:"):
            stage = inputs.switch("Stage", score_frames.stages(columns) or ["late"], "stage", "late")
            variants = inputs.switch("Variants of a score", VARIANTS, "variants", VARIANTS[0])
            method = inputs.switch("Correlation", METHODS, "method", METHODS[0])
    selection = Selection(split, class_name, meta=meta)
    if reason := model_output.subset_refusal(audit, selection):
        return inputs.empty(reason)
    selection, left_out = model_output.exclude_hidden(audit, selection)
    inputs.remark(left_out)
    chosen = columns if variants == "all" or what == "stability" else score_frames.main_variants(columns, stage)
    scores = score_frames.score_frame(audit, run, chosen, selection)
    if what != "stability":
        say_how_many(audit, selection, len(scores.values))
    if scores.values.empty:
        return explain_nothing(audit, run, selection)
    names = score_frames.unique_titles(columns)
    scores, same = score_frames.drop_constant(scores)
    if same and what != "stability":
        listed_names = ", ".join(f"*{plain(names[address])}*" for address in same)
        st.caption(f"Not compared, because they have the same value for every example here: {listed_names}.")
    if what == "stability":
        shown = score_frames.main_variants(columns, stage) if variants != "all" else columns
        return stability.show_stability(audit, run, shown, columns, scores, selection)
    if what == "truth":
        return known_errors.show_known_errors(audit, columns, scores, selection, names)
    return show_pairs(audit, run, columns, scores, names, what, method)


def show_pairs(
    audit: Audit,
    run: Run,
    columns: list[ScoreColumn],
    scores: score_frames.Scores,
    names: Mapping[str, str],
    what: str,
    method: str,
) -> None:
    """Shows the matrix, and the pair chosen in it."""
    if scores.values.shape[1] < 2:
        return inputs.empty(
            f"A comparison needs two scores that rank these examples; found {scores.values.shape[1]}. This "
            "command computes every score that the run allows:",
            command_line("score", audit, "--run", run.name),
        )
    open_ones = [names[c.address] for c in columns if c.address in scores.values and c.hard_end is None]
    if open_ones:
        listed_names = ", ".join(f"*{plain(name)}*" for name in open_ones[:MOST_NAMED])
        more = f" and {len(open_ones) - MOST_NAMED} more" if len(open_ones) > MOST_NAMED else ""
        st.caption(
            f"Neither end of these scores is known to be hard on this run, so high values rank first: "
            f"{listed_names}{more}."
        )
    takes = score_frames.uses_label(audit, run, [c for c in columns if c.address in scores.values])
    if what == "overlap":
        score_pairs.show_overlap(scores, names, takes)
    else:
        score_pairs.show_agreement(scores, names, takes, method)
    st.subheader("Where two scores disagree", anchor=False)
    pair = score_pairs.pick_pair(scores.values, names)
    if pair is None:
        st.caption("Click a cell above, or choose two scores here, to list the examples on which they disagree most.")
        return None
    return score_pairs.show_pair(audit, run, scores, columns, pair, names)


def say_how_many(audit: Audit, selection: Selection, shown: int) -> None:
    """Shows over how many examples the numbers are computed."""
    n = int(database.counts(audit, selection, ["split"])["n"].sum())
    if shown < n:
        st.caption(f"Computed over a random sample of {shown:,} of {count(n, 'example')}.")
    else:
        st.caption(f"Computed over {count(n, 'example')}.")


def explain_nothing(audit: Audit, run: Run, selection: Selection) -> None:
    """Shows why there are no numbers."""
    if selection != Selection():
        return inputs.empty("No scored example matches these filters. Choose another split, class or filter.")
    return inputs.empty(
        "No example has a score yet. This command computes scores:", command_line("score", audit, "--run", run.name)
    )


show()
