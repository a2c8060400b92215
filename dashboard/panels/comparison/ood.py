"""How well each score and each standard detector finds examples that are known to be out of distribution.

Shows the last report of `hardlook ood` for the run. Cost: one small file.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.charts import detection_curves
from dashboard.queries import database
from dashboard.queries.selection import Selection
from dashboard.style.formatting import command_line, count, quoted
from dashboard.widgets import inputs
from scoring.audit import Audit, Run
from scoring.audit.storage import read_metadata, read_table

DEFAULT_CURVES = 5
HELP = {
    "kind": "A score of this run, or a standard OoD detector fitted on the features of the training examples.",
    "AUROC": "Probability that an out-of-distribution example scores higher than an in-distribution one. A random "
    "score has 0.5.",
    "AUPR in": "Average precision of finding in-distribution examples by the reversed score. A random score has "
    "their share.",
    "AUPR out": "Average precision of finding out-of-distribution examples. A random score has their share.",
    "inside": "In-distribution examples that have the score.",
    "outside": "Out-of-distribution examples that have the score.",
}


def show_ood(audit: Audit, run: Run) -> None:
    """Shows the table, the ROC curves, and how to read them."""
    at = database.stamp(run.out_of_distribution_path)
    if at is None:
        return inputs.empty(
            "There is no out-of-distribution report yet. It needs a group of examples that the model is not "
            "meant for: a split, or one value of a metadata column. This command measures how well each score "
            "and each standard OoD detector separates them from the test split:",
            command_line("ood", audit, "--run", run.name, "--out", example_of(audit)),
        )
    table, facts = _report(at)
    most = table.loc[table["inside"].add(table["outside"]).idxmax()]
    share = most["outside"] / max(most["inside"] + most["outside"], 1)
    st.markdown(
        f"Out of distribution: {quoted(str(facts.get('out')), 200)} "
        f"({count(int(most['outside']), 'example')}) · in distribution: {quoted(str(facts.get('in')), 200)} "
        f"({count(int(most['inside']), 'example')}) · AUPR out of a random score: {share:.3g}"
    )
    warn_if_outdated(audit, run, at, facts)
    show_curves(table)
    show_table(table)
    return None


def example_of(audit: Audit) -> str:
    """Returns a condition that the command accepts in this audit."""
    splits = set(database.counts(audit, Selection(), ["split"])["split"])
    return "split=pool" if "pool" in splits else "COLUMN=VALUE"


def warn_if_outdated(audit: Audit, run: Run, report: database.Stamp, facts: dict[str, Any]) -> None:
    """Warns if scores or examples are newer than the report."""
    files = [audit.examples_path, *(run.score_path(name) for name in run.score_names())]
    newer = [path for path in files if (found := database.stamp(path)) and found[1] > report[1]]
    if newer:
        inputs.warn("Examples or scores are newer than this report. This command renews it:")
        given = ["--run", run.name, "--out", str(facts.get("out")), "--in", str(facts.get("in"))]
        st.code(command_line("ood", audit, *given), language="bash")


def show_curves(table: pd.DataFrame) -> None:
    """Shows ROC curves of the best scores, or of those in the address."""
    known = table[table["auroc"].notna()]
    if "roc" not in known or known.empty:
        return
    names = known["score"].tolist()
    chosen = st.multiselect(
        "Curves", names, default=best(known), key="curves", bind="query-params", placeholder="Choose scores"
    )
    chosen_rows = known.set_index("score").loc[[name for name in chosen if name in names] or names[:1]]
    inputs.show_chart(detection_curves.roc_ood(chosen_rows["roc"].to_dict(), chosen_rows["auroc"].to_dict()), "outside")


def best(known: pd.DataFrame) -> Sequence[str]:
    """Returns the best of the run's own scores and the best standard detectors, for a first comparison."""
    if "classical" not in known:
        return known["score"].tolist()[:DEFAULT_CURVES]
    own, classical = (known.loc[known["classical"] == which, "score"].tolist() for which in (False, True))
    return own[: max(DEFAULT_CURVES - 2, DEFAULT_CURVES - len(classical))] + classical[:2]


def show_table(table: pd.DataFrame) -> None:
    """Shows the numbers, the best AUROC first."""
    shown = pd.DataFrame({"score": table["score"]})
    if "classical" in table:
        shown["kind"] = table["classical"].map({True: "standard OoD detector", False: "score of this run"})
    shown = shown.assign(
        **{
            "AUROC": table["auroc"],
            "AUPR in": table["aupr_in"],
            "AUPR out": table["aupr_out"],
            "inside": table["inside"],
            "outside": table["outside"],
        }
    )
    numbers = dict.fromkeys(("AUROC", "AUPR in", "AUPR out"), "%.3f") | {
        "inside": "localized",
        "outside": "localized",
    }
    config = {name: st.column_config.NumberColumn(format=form, help=HELP[name]) for name, form in numbers.items()}
    config["kind"] = st.column_config.TextColumn(help=HELP["kind"])
    st.dataframe(
        shown,
        hide_index=True,
        placeholder=inputs.NONE,
        column_config=config,
        height="content" if len(shown) < 15 else 480,
    )
    st.caption(
        "Scores are oriented so that high means out of distribution (VoG as in its paper). AUROC does not depend on "
        "the number of out-of-distribution examples; both AUPR values do. A row without numbers could not be computed."
    )


@lru_cache(maxsize=4)
def _report(at: database.Stamp) -> tuple[pd.DataFrame, dict[str, Any]]:
    table = read_table(at[0]).to_pandas().sort_values("auroc", ascending=False, na_position="last")
    return table.reset_index(drop=True), read_metadata(at[0])
