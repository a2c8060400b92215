"""/deciles: the model's error rate in each tenth of a score, per stage and per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.blinding import model_output
from dashboard.charts import common
from dashboard.panels.corrected_metrics import warn_about_test
from dashboard.presenters import corrected_metrics
from dashboard.queries import database
from dashboard.queries.score_columns import ScoreColumn, describe_ends, first_column
from dashboard.queries.selection import Selection
from dashboard.style.formatting import command_line, count, percent, plain
from dashboard.widgets import grouping, inputs, manual, page_frame
from scoring.audit import Audit, Run

MEMORISED = 0.01
SCARCE = 50
MOST_CLASSES = 20
SMALL_CLASS = 20


def show() -> None:
    """Shows the page."""
    audit, run, meta, columns = page_frame.scored_run()
    if not run.predictions_path.is_file():
        return inputs.empty(
            "Error rates need predictions, and this run has none yet. This command computes them:",
            command_line("score", audit, "--run", run.name),
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        column = inputs.pick_score(columns, first_column(columns), fixed={"stage": "late"})
        split = inputs.pick_split(audit, "test", labelled=True)
        class_name = inputs.pick_class(audit)
    selection = Selection(split, class_name, column.steps.get("index", "label"), meta)
    if reason := model_output.subset_refusal(audit, selection):
        return inputs.empty(reason)
    selection, left_out = model_output.exclude_hidden(audit, selection)
    inputs.remark(left_out)
    known = database.accuracy(audit, run, selection, ["split"])
    if len(known) and not len(known := model_output.drop_revealing_accuracy(audit, known, selection)):
        return inputs.empty(model_output.TOO_FEW)
    n, errors = int(known["n"].sum()), int(known["n"].sum() - known["right"].sum())
    if n == 0:
        return inputs.empty("No example here has both a label and a prediction. Choose another split or class.")
    if errors < MEMORISED * n:
        return memorised(split, n, errors)
    base_rate = errors / n
    if n < SCARCE:
        inputs.warn(f"Only {count(n, 'example')}: each decile is small, so its interval is wide.")
    show_deciles(audit, run, columns, column, selection, base_rate)
    show_by_group(audit, run, column, selection)
    if class_name is None and len(audit.classes) > 1:
        show_by_class(audit, run, column, selection)
    return None


def memorised(split: str | None, n: int, errors: int) -> None:
    """Shows that the model makes too few errors for deciles."""
    where = f"the {split} split" if split else "these examples"
    if split == "test":
        return inputs.empty(
            f"The model is wrong on {errors:,} of {count(n, 'example')} of {where}. These are too few errors for "
            "deciles."
        )
    return inputs.empty(
        f"No deciles here: the model has memorised these examples. It is wrong on {errors:,} of {count(n, 'example')} "
        f"of {where} ({percent(errors / n)}), so its error here does not measure difficulty. Choose the test split."
    )


def variants_by_stage(columns: Sequence[ScoreColumn], column: ScoreColumn) -> dict[str, ScoreColumn]:
    """Returns the same score at early and late stages (else the score alone), by the name of the stage."""
    rest = {step: value for step, value in column.steps.items() if step != "stage"}
    found = {
        other.steps["stage"]: other
        for other in columns
        if other.scorer == column.scorer
        and other.family == column.family
        and "stage" in other.steps
        and {step: value for step, value in other.steps.items() if step != "stage"} == rest
    }
    return {stage: found[stage] for stage in ("early", "late") if stage in found} or {column.title: column}


def show_deciles(
    audit: Audit, run: Run, columns: Sequence[ScoreColumn], column: ScoreColumn, selection: Selection, base_rate: float
) -> None:
    """Shows the error per decile; a click on a bar opens its examples."""
    variants = variants_by_stage(columns, column)
    frames = {name: database.decile_errors(audit, run, variant, selection) for name, variant in variants.items()}
    frames = {
        name: corrected_metrics.add_corrected_deciles(audit, run, variants[name], selection, frame)
        for name, frame in frames.items()
    }
    for name, variant in variants.items():
        warning, sentence = describe_ends(variant)
        text = f"**{name}**: {sentence}" if len(variants) > 1 else f"**{variant.title}** – {variant.help} {sentence}"
        (inputs.warn if warning else st.caption)(text)
    inputs.remark(manual.score_link(column.scorer))
    page_frame.warn_about_stages(run, column)
    event = inputs.show_chart(
        common.error_by_decile(frames, base_rate), "deciles", on_select="rerun", selection_mode="points"
    )
    text = corrected_metrics.note(next(iter(frames.values())))
    if text:
        st.caption(text)
        if selection.split != "train":
            warn_about_test(audit)
    links = {name: link(run, columns, variant, selection) for name, variant in variants.items()}
    points = event.selection.points if event else []
    if points and points[0].get("customdata"):
        name, decile = points[0]["customdata"][:2]
        if name in links:
            page_frame.go("grid", links[name] | {"decile": str(decile)})
    with st.expander("Table of numbers, and links to each decile in the grid"):
        show_links(links)
        show_numbers(frames)


def link(run: Run, columns: Sequence[ScoreColumn], column: ScoreColumn, selection: Selection) -> dict[str, Any]:
    """Returns parameters of the grid that shows this column and selection."""
    parameters = {"run": run.name, "split": selection.split, "class": selection.class_name}
    parameters |= inputs.score_parameters(columns, column) | inputs.meta_parameters(selection.meta)
    return {key: value for key, value in parameters.items() if value}


def show_links(links: dict[str, dict[str, Any]]) -> None:
    """Shows the links of the bars for the keyboard."""
    for name, parameters in links.items():
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            st.caption(f"{plain(name)}: open decile", width="content")
            for decile in range(1, 11):
                if st.button(str(decile), key=f"{name} {decile}", type="tertiary"):
                    page_frame.go("grid", parameters | {"decile": str(decile)})


def show_numbers(frames: dict[str, pd.DataFrame]) -> None:
    """Shows the numbers of the bars as a table."""
    both = pd.concat([frame.assign(stage=name) for name, frame in frames.items()], ignore_index=True)
    for name in ("error", "low", "high"):
        both[name] = [percent(value) for value in both[name]]
    more = {}
    if "changed" in both:
        both["corrected"] = [percent(value) for value in both["corrected"]]
        more = {"corrected": "error on corrected labels", "changed": "labels changed"}
    renamed = {"error": "error", "low": "95 % from", "high": "to", "n": "examples", "stage": "score"}
    st.dataframe(
        both[["stage", "decile", "n", "error", "low", "high", *more]].rename(columns=renamed | more),
        hide_index=True,
        placeholder=inputs.NONE,
    )


def show_by_group(audit: Audit, run: Run, column: ScoreColumn, selection: Selection) -> None:
    """Shows the error per decile within each group of the metadata column chosen in the sidebar."""
    grouped = page_frame.current_grouping()
    if grouped is None:
        return None
    st.subheader(f"Within each {plain(grouped.column)}: {plain(column.title)}", anchor=False)
    if reason := model_output.subset_refusal(audit, grouping.within(selection, grouped.groups[0])):
        return inputs.empty(reason)
    inputs.remark(None if selection.left_out else model_output.exclude_hidden(audit, selection, parted=True)[1])
    frame = grouping.decile_errors(audit, run, column, selection, grouped)
    sizes = frame.groupby("class")["n"].sum() if len(frame) else pd.Series(dtype=int)
    names = [name for name in grouped.names if sizes.get(name, 0) >= SMALL_CLASS]
    small = len(sizes) - len(names)
    if small:
        st.caption(f"Not shown: {count(small, 'group')} with fewer than {SMALL_CLASS} examples here.")
    grouping.explain(grouped)
    if names:
        inputs.show_chart(common.class_deciles(frame[frame["class"].isin(names)], names, "group"), "group_deciles")
    return None


def show_by_class(audit: Audit, run: Run, column: ScoreColumn, selection: Selection) -> None:
    """Shows error per decile within each class; with many classes those with most errors."""
    st.subheader(f"Within each class: {plain(column.title)}", anchor=False)
    known = database.accuracy(audit, run, selection, ["label"])
    known = known.assign(errors=known["n"] - known["right"]).sort_values(["errors", "label"], ascending=[False, True])
    small = known["n"] < SMALL_CLASS
    names = known["label"][~small].tolist()
    if not names:
        st.caption(f"No class has {SMALL_CLASS} or more examples here, so there are no deciles per class.")
        return
    if small.any():
        st.caption(
            f"Not shown: {count(int(small.sum()), 'class', 'classes')} with fewer than {SMALL_CLASS} examples here."
        )
    if len(names) > MOST_CLASSES:
        words = {
            "most errors": names,
            "fewest errors": names[::-1],
            "as listed": [c for c in audit.classes if c in set(names)],
        }
        order = inputs.switch("Show the classes with", list(words), "classes", "most errors")
        names = words[order][:MOST_CLASSES]
        st.caption(f"{MOST_CLASSES} of {count(int((~small).sum()), 'class', 'classes')}.")
    by_label = replace(selection, index="label")
    frame = database.class_decile_errors(audit, run, column, by_label, names)
    parts = [
        corrected_metrics.add_corrected_deciles(
            audit, run, column, replace(by_label, class_name=name), part.reset_index(drop=True)
        )
        for name, part in frame.groupby("class", sort=False)
    ]
    frame = pd.concat(parts, ignore_index=True)
    inputs.show_chart(common.class_deciles(frame, names), "class_deciles")


show()
