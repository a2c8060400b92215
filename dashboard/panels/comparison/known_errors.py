"""How well each score finds wrong labels, where verified labels are known: curves and numbers over groups of examples.

The verified label of a single example is never shown. Numbers over few examples could reveal it. They are therefore
shown only for at least ``FEWEST_KNOWN`` verified examples with at least ``FEWEST_WRONG`` wrong labels, and only where
the difference of two selections reveals nothing (``dashboard.queries.score_frames.reveals_truth``). Limit: if a single
class is too small to be shown, the numbers of all others give it away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from dashboard.charts import detection_curves
from dashboard.queries.score_columns import ScoreColumn
from dashboard.queries.score_frames import (
    FEWEST_KNOWN,
    FEWEST_WRONG,
    Scores,
    reveals_truth,
    runs_with_score,
    score_frame,
    wrong_labels,
)
from dashboard.queries.selection import Selection
from dashboard.style.formatting import count, percent
from dashboard.widgets import inputs
from scoring.audit import Audit
from scoring.evaluation import detection_report, recall_curve, roc_over_runs

DEFAULT_CURVES = 5
HELP = {
    "inspected first": "The end of the score that is reviewed first, by definition or by the errors on this run.",
    "AUROC": "Probability that a wrong label ranks before a right label. A random order has 0.5.",
    "average precision": "Mean precision at the wrong labels in the ranking. A random order has their share.",
    "found in 5 %": "Share of the wrong labels among the first 5 % of the ranking.",
    "to find 80 %": "Number of examples to review until 80 % of the wrong labels are found.",
    "t": "Welch's t statistic of the score, wrong against right labels. Positive: wrong labels are at the "
    "suspicious end.",
    "p": "Two-sided p-value of t. It tests whether the means differ, not whether the score ranks well.",
    "effect": "Cohen's d: difference of the means, in pooled standard deviations. 0.2 is small, 0.8 is large.",
}
NO_TRUTH = (
    "This audit has no verified labels. To measure how well scores find wrong labels, add a file of "
    "verified labels (for example of planted errors) to audit.toml and reload this page. Verified labels "
    "are used for these curves only and are never shown to a reviewer:"
)
TRUTH_REVEALED = (
    "The difference of two such selections could reveal the verified label of a single example. Curves "
    "are shown without metadata filters, or for one metadata column filtered by its values if each value "
    f"has at least {FEWEST_KNOWN} verified examples and {FEWEST_WRONG} wrong labels."
)
EXAMPLE = '[truth]\npath = "truth.csv"          # example_id, true_label'


def show_known_errors(
    audit: Audit,
    columns: Sequence[ScoreColumn],
    scores: Scores,
    selection: Selection,
    names: Mapping[str, str],
) -> None:
    """Shows curves, numbers and ROC over runs."""
    wrong = wrong_labels(audit, scores.labels)
    if wrong is None:
        st.info(NO_TRUTH, icon=":material/info:")
        st.code(EXAMPLE, language="toml")
        return None
    if len(wrong) < FEWEST_KNOWN or int(wrong.sum()) < FEWEST_WRONG:
        return inputs.empty(
            f"Curves need at least {FEWEST_KNOWN} verified examples and {FEWEST_WRONG} wrong labels in the "
            "selection, because numbers over fewer examples could reveal whose label is wrong. Choose another "
            "split, or all classes."
        )
    if reveals_truth(audit, selection):
        return inputs.empty(TRUTH_REVEALED)
    values = scores.values.reindex(wrong.index)
    report = detection_report(values, wrong.to_numpy())
    st.markdown(
        f"{count(int(wrong.sum()), 'wrong label')} among {count(len(wrong), 'verified example')} "
        f"({percent(float(wrong.mean()))})."
    )
    show_curves(values, wrong, report, names)
    show_report(report, names, {column.address: column.hard_end for column in columns})
    show_roc(audit, columns, selection, report, names)
    return None


def show_curves(values: pd.DataFrame, wrong: pd.Series, report: pd.DataFrame, names: Mapping[str, str]) -> None:
    """Shows recall against the share reviewed, for the best scores or those in the address."""
    order = report["score"].tolist()
    back = {names[address]: address for address in order}
    chosen = st.multiselect(
        "Scores",
        list(back),
        default=list(back)[:DEFAULT_CURVES],
        key="scores",
        bind="query-params",
        placeholder="Choose scores",
    )
    picked = [back[title] for title in chosen if title in back] or order[:1]
    curves = {address: recall_curve(values[address].to_numpy(), wrong.to_numpy()) for address in picked}
    inputs.show_chart(detection_curves.recall_curves(curves, names), "recall")


def show_report(report: pd.DataFrame, names: Mapping[str, str], ends: Mapping[str, str | None]) -> None:
    """Shows the numbers, the best score first."""
    table = pd.DataFrame(
        {
            "score": report["score"].map(names),
            "inspected first": [ends.get(address) or "high (direction not known)" for address in report["score"]],
            "AUROC": report["auroc"],
            "average precision": report["average_precision"],
            **{f"found in {p} %": 100 * report[f"recall_{p}"] for p in (1, 5, 10, 20)},
            "to find 80 %": report["to_find_80"],
            "t": report["t"],
            "p": report["p"].map(lambda p: "" if pd.isna(p) else ("< 0.001" if p < 0.001 else f"{p:.3g}")),
            "effect": report["effect"],
            "scored": report["scored"],
        }
    )
    formats = {name: "%.3g %%" for name in table if name.startswith("found in")}
    formats |= {
        "AUROC": "%.3f",
        "average precision": "%.3f",
        "to find 80 %": "%.0f",
        "t": "%.3g",
        "effect": "%.3g",
    }
    shown = {name: st.column_config.NumberColumn(format=form, help=HELP.get(name)) for name, form in formats.items()}
    shown["inspected first"] = st.column_config.TextColumn(help=HELP["inspected first"])
    shown["p"] = st.column_config.TextColumn(help=HELP["p"])
    st.dataframe(table, column_config=shown, hide_index=True, placeholder=inputs.NONE)
    st.caption(
        "Each score is reviewed from its suspicious end, as its definition says or as measured on this run. Examples "
        "without a score come last. A score that measures difficulty does not necessarily find wrong labels."
    )


def show_roc(
    audit: Audit,
    columns: Sequence[ScoreColumn],
    selection: Selection,
    report: pd.DataFrame,
    names: Mapping[str, str],
) -> None:
    """Shows one score's ROC curve in every run that has it, and their mean."""
    st.subheader("ROC over runs", anchor=False)
    back = {names[address]: address for address in report["score"]}
    address = back[inputs.choose("Score", list(back), "roc", next(iter(back)), width=320)]
    first = next(column for column in columns if column.address == address)
    suspicions, wrongs, runs = [], [], []
    for name, column in runs_with_score(audit, address).items():
        one = ScoreColumn(column.scorer, column.name, column.title, suspicious=first.hard_end)
        scores = score_frame(audit, audit.run(name), [one], selection)
        wrong = wrong_labels(audit, scores.labels)
        if address in scores.values and wrong is not None:
            suspicions.append(scores.values[address].reindex(wrong.index).to_numpy())
            wrongs.append(wrong.to_numpy())
            runs.append(name)
    curves, areas = roc_over_runs(suspicions, wrongs)
    inputs.show_chart(detection_curves.roc_runs(curves, runs, areas["auroc"].tolist()), "roc_runs")
    if len(runs) == 1:
        st.caption("Only one run has this score. `hardlook repeat` adds runs with other seeds.")
