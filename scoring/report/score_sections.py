"""The report's sections about scores: grids of the extremes, error by decile, and slices.

Lists hold no example of which somebody must not yet know what the model says, and say how many are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from scoring.audit import Audit, Run
from scoring.audit.storage import column_facts, read_schema, read_table
from scoring.corrections import corrected_metrics as metrics
from scoring.evaluation import error_by_decile
from scoring.queue.blinding import left_out
from scoring.queue.order import default_order, suggestions, suspicion
from scoring.report.html import Paper, bars, histogram, number, share
from scoring.slices.slicing_run import read_slicing

SHEET = 24  # pictures of a grid


SLICES = 8


PLOTS = 8


def not_hidden(paper: Paper, ids: Iterable[str], hidden: Mapping[str, str]) -> list[str]:
    """The examples of a ranking that are not hidden, and a note about the others."""
    ids = list(ids)
    if gone := [hidden[one] for one in ids if one in hidden]:
        paper.say(left_out(gone), "note")
    return [one for one in ids if one not in hidden]


def show_grids(paper: Paper, audit: Audit, run: Run | None, examples: pd.DataFrame, hidden: Mapping[str, str]) -> None:
    """Adds the most suspicious training examples, and those with the lowest and the highest VoG."""
    paper.section("Grids")
    labels = examples.set_index("example_id")["label"]
    order = default_order(audit, run, "train") if run else None
    if run is None or order is None:
        paper.say("No scores yet: run `hardlook score`.", "note")
        return
    ranked = suspicion(run, order).dropna()
    ranked = ranked[ranked.index.isin(examples.loc[examples["split"] == "train", "example_id"])]
    paper.heading("Most suspicious training examples")
    paper.say(f"{order.sentence}. A rank is not a probability of error.", "note")
    top = not_hidden(paper, ranked.sort_values(ascending=False, kind="stable").index, hidden)[:SHEET]
    suggested = suggestions(audit, run, labels[top]).set_index("example_id")["suggested_label"]
    paper.sheet((name, f"{labels[name]} → {suggested.get(name, '?')}") for name in top)
    path, column = run.score_path("vog"), vog_column(run)
    if column is not None:
        values = read_table(path, ["example_id", column]).to_pandas().set_index("example_id")[column].dropna()
        values = values[~values.index.isin(list(hidden))]
        for title, some in (("Lowest VoG", values.nsmallest(SHEET)), ("Highest VoG", values.nlargest(SHEET))):
            paper.heading(title)
            paper.sheet((name, f"{labels[name]} · {number(value)}") for name, value in some.items())


def show_deciles(paper: Paper, run: Run | None, both: pd.DataFrame | None = None) -> None:
    """Adds the error per decile of the main columns of each score."""
    paper.section("Error per decile")
    if run is None or not run.predictions_path.is_file() or not run.score_names():
        paper.say("No scores yet: run `hardlook score`.", "note")
        return
    predicted = read_table(run.predictions_path, ["example_id", "split", "correct"]).to_pandas()
    predicted = predicted[(predicted["split"] == "test") & predicted["correct"].notna()].set_index("example_id")
    if predicted.empty:
        paper.say("There are no labelled test examples, so there are no deciles.", "note")
        return
    both = None if both is None else both[both["split"] == "test"]
    changed = 0 if both is None else int((both["relabelled"] | ~both["kept"]).sum())
    note = (
        f" Diamonds: error on corrected labels, for deciles with changed labels ({changed:,} in all)."
        if changed
        else ""
    )
    paper.say(
        f"Test examples with their given labels. Lines: 95 % Wilson intervals. Dashed: the mean error.{note}",
        "note",
    )
    error = ~predicted["correct"].astype(bool)
    paper.parts.append('<div class="pair">')
    for scorer, column in [(name, column) for name in run.score_names() for column in _main_columns(run, name)][:PLOTS]:
        values = read_table(run.score_path(scorer), ["example_id", column]).to_pandas().set_index("example_id")[column]
        scores = values.reindex(predicted.index).to_numpy(float)
        if np.isfinite(scores).sum() < 10:
            continue
        facts = column_facts(read_schema(run.score_path(scorer)).field(column))
        title = facts.get("title", f"{scorer}.{column}")
        frame = error_by_decile(scores, error)
        if changed:
            frame = _decile_beside(frame, both, values)
        paper.chart(
            bars(frame, "decile", "error", f"decile of {title}, lowest to highest", "error", error.mean()),
            f"{title}: if the bars rise or fall, the score orders test examples by difficulty; if they are level, it "
            "does not.",
        )
    paper.parts.append("</div>")


def _decile_beside(frame: pd.DataFrame, both: pd.DataFrame, values: pd.Series) -> pd.DataFrame:
    """The deciles with the error on corrected labels, where some were changed."""
    table = metrics.by_decile(both, values)
    return frame.assign(corrected=table["corrected"].where(metrics.changed(table) > 0).to_numpy())


def _main_columns(run: Run, scorer: str) -> list[str]:
    """The first numeric column of a score file, and VoG's class-normalised one."""
    names = [field.name for field in read_schema(run.score_path(scorer)) if str(field.type) == "float"]
    return [vog_column(run) or names[0]] if scorer == "vog" else names[:1]


def vog_column(run: Run) -> str | None:
    """VoG's late, class-normalised column, of the logit form, or of the probability form where the model returns no
    logits; None where neither has a value."""
    path = run.score_path("vog")
    names = read_schema(path).names if path.is_file() else []
    wanted = [name for name in ("late_label_logit_z", "late_label_probability_z") if name in names]
    return next(
        (name for name in wanted if (table := read_table(path, [name])).num_rows > table[name].null_count), None
    )


def show_slices(
    paper: Paper, audit: Audit, run: Run | None, both: pd.DataFrame | None, hidden: Mapping[str, str]
) -> None:
    """Adds the least accurate slices with their labels, examples and opponents."""
    paper.section("Slices and their opponents")
    names = run.slicing_names() if run else []
    if run is None or not names:
        paper.say(f"No slices yet: run `hardlook slice {audit.root.name}`.", "note")
        return
    name = "kmeans" if "kmeans" in names else names[0]
    members, summary = read_slicing(run, name)
    blind = summary["settings"]["split"] == "test" and audit.policy.get("test") == "blind"
    by_slice = {} if both is None else {row.slice_id: row for row in metrics.by_slice(both, members).itertuples()}
    worst = sorted(summary["slices"], key=lambda row: (row["accuracy"] is None, row["accuracy"], -row["size"]))[:SLICES]
    paper.say(
        f"The {len(worst)} worst of {len(summary['slices'])} slices “{name}” of {summary['settings']['split']}: groups "
        "of examples on which the model fails for the same reason. Upper bars: labels. Lower bars: predictions. "
        "Opponents are the training examples that increase the loss on the slice most; check them for wrong labels.",
        "note",
    )
    named = {each["example_id"] for row in worst for each in row["opponents"]}
    not_hidden(paper, sorted(named if blind else named.union(*(row["nearest"] for row in worst))), hidden)
    for row in worst:
        paper.parts.append('<div class="slice">')
        paper.heading(
            f"Slice {row['slice_id']}: {row['size']:,} examples, accuracy {share(row['accuracy'])}"
            + _on_corrected(by_slice.get(row["slice_id"]))
        )
        classes = sorted(
            {*row["labels"], *row["predictions"]}, key=lambda c: -row["labels"].get(c, 0) - row["predictions"].get(c, 0)
        )[:8]
        paper.parts.append(histogram([(c, row["labels"].get(c, 0), row["predictions"].get(c, 0)) for c in classes]))
        if blind:
            paper.say("The test split is reviewed blind, so the examples of the slice are not shown.", "note")
        else:
            paper.sheet((example, "member") for example in [one for one in row["nearest"] if one not in hidden][:8])
        paper.sheet(
            (each["example_id"], f"opponent {number(each['influence'])}")
            for each in [one for one in row["opponents"] if one["example_id"] not in hidden][:8]
        )
        paper.parts.append("</div>")


def _on_corrected(row: Any) -> str:
    """The accuracy of a slice on corrected labels, where some were changed."""
    changed = 0 if row is None else int(row.relabelled + row.excluded)
    return f", {share(row.corrected)} on corrected labels ({changed:,} changed)" if changed else ""
