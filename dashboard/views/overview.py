"""/overview: what the audit holds, accuracy per class, the scores, the progress of the review, and data problems."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard.auth.serving import serving
from dashboard.blinding import model_output
from dashboard.charts import common
from dashboard.panels.corrected_metrics import show_on_both_labels
from dashboard.panels.duplicates import show_duplicates
from dashboard.presenters import corrected_metrics
from dashboard.presenters.example_content import shown_text
from dashboard.queries import database, decisions
from dashboard.queries.score_columns import ScoreColumn, describe_ends
from dashboard.queries.selection import Selection
from dashboard.style.formatting import (
    command_line,
    count,
    listed,
    number,
    percent,
    percent_interval,
    plain,
    quoted,
    sentence,
)
from dashboard.widgets import grouping, inputs, manual, page_frame
from scoring.audit import SPLITS, Audit, Run
from scoring.audit.storage import read_json, readable
from scoring.reviews.verdicts import VERDICTS

MOST_CLASSES = 20
MEMORISED = 0.01
ORDERS = ("fewest examples", "most examples", "lowest accuracy", "as listed")


def show() -> None:
    """Shows the page."""
    shared = page_frame.current()
    audit, run, selection = shared.audit, shared.run, Selection(meta=shared.meta)
    st.title(plain(audit.name), anchor=False)
    page_frame.show_under_way(run)
    show_splits(audit, run, selection)
    show_warnings(audit, run, selection)
    show_classes(audit, run, selection)
    show_groups(audit, run, selection)
    show_scores(audit, run)
    show_on_both_labels(audit, run)
    show_reviews(audit, selection)
    show_duplicates(audit, run, selection)
    show_problems(audit, selection)
    show_check(audit, run)


def show_splits(audit: Audit, run: Run | None, selection: Selection) -> None:
    """Shows the number of examples and the accuracy of the last checkpoint per split."""
    counts = database.counts(audit, selection, ["split"])
    part, left_out = model_output.exclude_hidden(audit, selection)
    known = (
        database.with_intervals(
            model_output.drop_revealing_accuracy(audit, database.accuracy(audit, run, part, ["split"]), part)
        )
        if run
        else pd.DataFrame({"split": []})
    )
    known = known.set_index("split")
    classes = count(len(audit.classes), "class", "classes")
    st.markdown(
        f"{count(int(counts['n'].sum()), 'example')}, {classes}, {audit.media}"
        + (", filtered by metadata" if selection.meta else "")
        + (f" · run {quoted(run.name)}" if run else "")
    )
    if counts.empty:
        return inputs.empty("No example matches the metadata filters in the sidebar.")
    facts = _facts(counts, known)
    with st.container(horizontal=True, gap="small"):  # wraps on narrow screens, so that no number is cut off
        for name, value, help_text in facts:
            st.metric(name, value, help=help_text, width=170)
    inputs.remark(f"Accuracy here and below: {left_out}" if left_out and run else None)
    if "train" in known.index and known.loc["train", "accuracy"] > 1 - MEMORISED:
        st.caption(
            "The model has memorised the train split: its error there is under 1 %. The last checkpoint therefore also "
            "predicts wrong labels. Use the scores of the recorded training instead, or look at the test split."
        )
    if run is None:
        inputs.empty("audit.toml names no model yet, so there are no predictions and no scores.")
    elif not run.predictions_path.is_file():
        inputs.empty(
            "This run has no predictions yet. This command computes predictions and scores:",
            command_line("score", audit, "--run", run.name),
        )
    return None


def _facts(counts: pd.DataFrame, known: pd.DataFrame) -> list[tuple[str, str, str]]:
    facts = []
    for row in counts.sort_values("split", key=lambda names: names.map(SPLITS.index)).itertuples():
        facts.append((f"{row.split} examples", f"{row.n:,}", f"{row.labelled:,} labelled, {row.problems:,} unreadable"))
        if row.split in known.index:
            found = known.loc[row.split]
            facts.append(
                (
                    f"{row.split} accuracy",
                    percent(found["accuracy"]),
                    f"95 % interval {percent_interval(found['low'], found['high'])}, last checkpoint",
                )
            )
    return facts


def show_warnings(audit: Audit, run: Run | None, selection: Selection) -> None:
    """Shows problems that make the numbers below unreliable, with the commands that solve them."""
    unreadable = int(database.counts(audit, selection, ["split"])["problems"].sum())
    if unreadable:
        st.warning(
            f"{count(unreadable, 'example')} could not be read and {'has' if unreadable == 1 else 'have'} no "
            "scores. “Unreadable” below lists the reasons."
        )
    if run is None:
        return
    for warning in check_warnings(run):
        st.warning(f"hardlook check: {quoted(warning, 400)}")
    broken = database.broken_scores(run)
    if broken:
        st.warning(f"These score files cannot be read: {listed(broken)}. Delete them and run `hardlook score` again.")
    stale = database.coverage(audit, run)
    stale = stale[(stale["stale"] > 0) | (stale["missing"] > 0)]
    if len(stale):
        st.warning(
            f"Some scores are out of date ({listed(list(stale.index))}). Changed since scoring: up to "
            f"{count(int(stale['stale'].max()), 'example')}. Not scored yet: up to {int(stale['missing'].max()):,}."
        )
        st.code(command_line("score", audit, "--run", run.name), language="bash")


def check_warnings(run: Run) -> list[str]:
    """Returns the warnings of the last `hardlook check`."""
    findings = (read_json(run.check_path, {}) or {}).get("findings", [])
    return [str(finding.get("text")) for finding in findings if finding.get("level") in ("warning", "error")]


def show_classes(audit: Audit, run: Run | None, selection: Selection) -> None:
    """Shows class balance and accuracy per class; of many classes a choice."""
    if not audit.classes:
        return
    st.subheader("Classes", anchor=False)
    balance = database.counts(audit, selection, ["label", "split"]).dropna(subset=["label"])
    part, _ = model_output.exclude_hidden(audit, selection)
    known = database.accuracy(audit, run, part, ["label", "split"]) if run else pd.DataFrame()
    known = model_output.drop_revealing_accuracy(audit, known, part)
    names = choose_classes(audit, balance, known)
    left, right = st.columns(2)
    with left:
        inputs.show_chart(common.class_balance(balance, names), "balance")
    with right:
        if len(known):
            shown = database.with_intervals(known[known["label"].isin(names)])
            shown = corrected_metrics.add_corrected_classes(audit, run, shown, part)
            inputs.show_chart(common.class_accuracy(shown, names), "accuracy")
        else:
            inputs.empty("Accuracy per class needs labels and predictions.")


def show_groups(audit: Audit, run: Run | None, selection: Selection) -> None:
    """Shows the same per group of the metadata column chosen in the sidebar."""
    grouped = page_frame.current_grouping()
    if grouped is None:
        return None
    st.subheader(f"By {plain(grouped.column)}", anchor=False)
    sizes = grouping.counts(audit, selection, grouped)
    if sizes.empty:
        return inputs.empty("No example of these groups passes the filters in the sidebar.")
    names = [name for name in grouped.names if name in set(sizes["label"])]
    left, right = st.columns(2)
    with left:
        inputs.show_chart(common.class_balance(sizes, names, "group"), "group_balance")
    known = grouping.accuracy(audit, run, selection, grouped) if run else pd.DataFrame()
    known = model_output.drop_revealing_accuracy(audit, known, grouping.within(selection, grouped.groups[0]))
    with right:
        if len(known):
            inputs.show_chart(common.class_accuracy(database.with_intervals(known), names, "group"), "group_accuracy")
        else:
            inputs.empty("Accuracy per group needs labels and predictions.")
    grouping.explain(grouped)
    left_out = (
        None if selection.meta or not len(known) else model_output.exclude_hidden(audit, selection, parted=True)[1]
    )
    inputs.remark(f"Accuracy: {left_out}" if left_out else None)
    return None


def choose_classes(audit: Audit, balance: pd.DataFrame, known: pd.DataFrame) -> list[str]:
    """Returns which classes the charts show, in order: all if they are few, else the first in a chosen order."""
    if len(audit.classes) <= inputs.MANY_CLASSES:
        return audit.classes
    with st.container(horizontal=True, vertical_alignment="bottom"):
        orders = [order for order in ORDERS if len(known) or order != "lowest accuracy"]
        order = inputs.switch("Show the classes with", orders, "classes", orders[0])
    sizes = balance.groupby("label", observed=True)["n"].sum().reindex(audit.classes, fill_value=0)
    if order == "lowest accuracy":
        worst = known[known["split"] == ("test" if "test" in set(known["split"]) else known["split"].iloc[0])]
        chosen = worst.sort_values(["accuracy", "n"], ascending=[True, False])["label"].tolist()
    elif order == "as listed":
        chosen = audit.classes
    else:
        chosen = sizes.sort_values(ascending=order == "fewest examples", kind="stable").index.tolist()
    st.caption(f"{MOST_CLASSES} of {count(len(audit.classes), 'class', 'classes')}.")
    return chosen[:MOST_CLASSES]


def show_scores(audit: Audit, run: Run | None) -> None:
    """Shows which scores exist, what they mean, and which end of each to review first."""
    if run is None:
        return
    st.subheader("Scores", anchor=False)
    columns = database.score_columns(run)
    if columns:
        table = scores_table(columns, database.coverage(audit, run), run)
        st.dataframe(
            table,
            hide_index=True,
            placeholder=inputs.NONE,
            column_config=_score_columns(),
            height="content" if len(table) < 12 else 460,
        )
        st.caption(
            "“Hard or suspicious end” is the end of the score to review first. It is part of the score's "
            "definition, or it is measured on this run: ρ is the rank correlation of score and model error. A "
            "dash means that neither end is known to be hard."
        )
    else:
        inputs.empty(
            "This run has no scores yet. This command computes them:", command_line("score", audit, "--run", run.name)
        )
    remarks = scoring_remarks(audit, run)
    if remarks:
        st.caption("Notes from reading the data and from scoring this run:")
        st.markdown(remarks)  # not st.table, which limits a cell to half of the page


def scoring_remarks(audit: Audit, run: Run) -> str:
    """Returns notes from reading the data and from scoring, with the reasons for scores that were not computed: a
    Markdown list with one line per sentence, in which commands are code and other markup is escaped."""
    record, data = run.record(), read_json(audit.ingest_path, {}) or {}
    rows = [("data", str(text)) for text in (*data.get("reading", ()), *data.get("notes", ()))]
    rows += [(scorer, f"not computed: {reason}") for scorer, reason in (record.get("skipped") or {}).items()]
    rows += [(scorer, str(text)) for scorer, texts in (record.get("notes") or {}).items() for text in texts]
    return "\n".join(f"- **{plain(scorer)}**: {sentence(text)}" for scorer, text in rows)


def scores_table(columns: list[ScoreColumn], coverage: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Returns one row per score column, with the address of its grid."""
    rows = []
    for column in columns:
        rho = (column.direction or {}).get("rho")
        end = {"high": "highest", "low": "lowest"}.get(column.hard_end or "", "–")
        link = {"run": run.name} | inputs.score_parameters(columns, column)
        rows.append(
            {
                "score": column.title,
                "finds": column.detects or "–",
                "end": end,
                "rho": number(rho),
                "scored": int(coverage["scored"].get(column.scorer, 0)),
                "stale": int(coverage["stale"].get(column.scorer, 0)),
                "grid": inputs.address("grid", link),
                "manual": manual.score_address(column.scorer),
                "meaning": f"{column.help} {describe_ends(column)[1]}",
            }
        )
    return pd.DataFrame(rows)


def _score_columns() -> dict[str, Any]:
    return {
        "score": st.column_config.TextColumn("Score", width=250),
        "finds": st.column_config.TextColumn("Finds", width=150),
        "end": "Hard or suspicious end",
        "rho": st.column_config.TextColumn("ρ with error"),
        "scored": st.column_config.NumberColumn("Examples", format="localized"),
        "stale": st.column_config.NumberColumn("Stale", format="localized"),
        "grid": st.column_config.LinkColumn("Grid", display_text="open"),
        "manual": st.column_config.LinkColumn("Manual", display_text="read"),
        "meaning": st.column_config.TextColumn("Meaning", width="large"),
    }


def show_reviews(audit: Audit, selection: Selection) -> None:
    """Shows the progress of the review."""
    st.subheader("Review", anchor=False)
    now = decisions.state_at(audit)
    if not now["decided"] and not now["flagged"]:
        keys = (
            ". Open Suspects and look at the first example. Press Q if its label is right, W to take the "
            "suggested label, ? to list all keys"
        )
        return inputs.empty(f"There are no decisions yet{'' if serving().identity.read_only else keys}.")
    total = int(database.counts(audit, Selection(), ["split"])["n"].sum())
    facts = {VERDICTS[state].words if state in VERDICTS else state: state for state in decisions.PROGRESS_STATES}
    with st.container(horizontal=True, gap="small"):
        for word, key in facts.items():
            st.metric(word, f"{len(now[key]):,}", help=f"out of {count(total, 'example')}", width=150)
    st.progress(
        min(1.0, len(now["decided"]) / max(total, 1)),
        text=f"{percent(len(now['decided']) / max(total, 1))} decided",
    )
    return None


def show_problems(audit: Audit, selection: Selection) -> None:
    """Shows examples that could not be read, with the reason."""
    frame = database.problems(audit, selection)
    if frame.empty:
        return
    st.subheader("Unreadable", anchor=False)
    st.dataframe(frame, hide_index=True, placeholder=inputs.NONE, height="content" if len(frame) < 10 else 320)
    st.caption("These examples stay in the dataset without scores. Repair or remove their files, then score again.")


def show_check(audit: Audit, run: Run | None) -> None:
    """Shows the inputs after the transform, from the last `hardlook check`."""
    if run is None:
        return
    st.subheader("Model inputs", anchor=False)
    summary = (read_json(run.check_path, {}) or {}).get("seen")
    if summary:
        show_input_summary(summary)
    elif run.check_picture.is_file():
        with readable(run.check_picture):
            st.image(str(run.check_picture), alt="Sixteen model inputs after the transform")
        st.caption(
            "Sixteen inputs after the transform. If colours or crop are wrong here, every number in this audit "
            "is wrong."
        )
    else:
        inputs.empty(
            "The model inputs have not been checked yet. This command checks them:", command_line("check", audit)
        )


def show_input_summary(summary: dict[str, Any]) -> None:
    """Shows statistics of each column for vectors, and tokens for texts."""
    if summary["kind"] == "vector":
        names = ["column", "mean", "deviation", "lowest", "highest"]
        formats = {name: st.column_config.NumberColumn(format="%.3g") for name in names[1:]}
        table = pd.DataFrame(summary["columns"], columns=names)
        table["column"] = table["column"].map(shown_text)
        st.dataframe(table, hide_index=True, placeholder=inputs.NONE, column_config=formats)
        more = f" {count(summary['left'], 'more column')} not listed." if summary["left"] else ""
        st.caption(
            "Each row is one input column after the transform. If the standard deviations differ a lot, the "
            f"transform does not standardise and the column with the largest one dominates.{more}"
        )
        return
    for tokens in summary["texts"]:
        st.text(" · ".join(shown_text(token) for token in tokens))
    st.caption(
        f"Texts as tokens, as the model reads them. The input length is {summary['length']} tokens. "
        f"{percent(summary['filled'])} of the texts reach this length; the model does not read the rest of them."
    )


show()
