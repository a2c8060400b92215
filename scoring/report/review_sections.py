"""The report's sections about the review: effort and estimates, decisions, and agreement of the reviewers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from scoring.audit import Audit
from scoring.corrections.label_patch import corrected_labels
from scoring.queue.blinding import SECOND
from scoring.queue.estimates import Effort, readers_table, wrong_labels
from scoring.report.html import Paper, bars, between, number, share, stopping
from scoring.reviews import ReviewLog, annotator_agreement

ROWS = 60


FEWEST = 24  # decisions of a block whose yield is shown


def show_effort(paper: Paper, efforts: list[Effort]) -> None:
    """Adds per split what the decisions found, the stopping chart and the estimates."""
    paper.section("Review effort and what it found")
    for found in efforts:
        paper.heading(f"{found.split}: {found.decided:,} of {found.labelled:,} labels decided")
        paper.say(found.sentence, "say")
        if not found.decided:
            continue
        paper.chart(
            stopping(found.history, found.allowed),
            "Solid: upper bound of the wrong labels that remain, at the goal's confidence, valid at all points "
            "simultaneously. Dotted: wrong labels found. Dashed: the goal. You can stop once the solid line is below "
            "the dashed one.",
        )
        paper.table(["what", "estimate", "interval"], _figures(found))
        paper.say(
            f"{found.drawn:,} controls are drawn for this goal and {found.counted:,} count: in each stratum, those "
            f"before the first undecided one. {found.waiting:,} are open and {found.unblinded:,} were decided with "
            "the model's output on screen. Unsure, disputed and non-blind answers count as right in lower bounds and "
            "as wrong in upper bounds, and are left out of the estimate. “Several labels fit” counts as wrong if the "
            "given label is not among them; “no class fits” counts as wrong.",
            "note",
        )
        blocks = found.by_rank[found.by_rank["last"] - found.by_rank["first"] >= FEWEST]
        if len(blocks):
            paper.chart(
                bars(blocks, "last", "rate", "suspects decided", "wrong labels", found.rate.value),
                "Each bar is the yield of 100 suspects in the order of the decisions, with its exact 95 % interval. "
                "Dashed: the yield of random examples.",
            )


def _figures(found: Effort) -> list[list[str]]:
    """The estimates of one split as rows."""
    rows = [
        ["wrong labels found", number(found.found), ""],
        [
            "wrong labels remaining (valid at any time)",
            number(round(found.remaining.value)) if np.isfinite(found.remaining.value) else "–",
            between(found.remaining.low, found.remaining.high, number),
        ],
        [
            "label-error rate according to the reviewers",
            share(found.rate.value),
            between(found.rate.low, found.rate.high),
        ],
    ]
    if found.clustered is not None:
        rows.append(
            ["the same, by group", share(found.clustered.value), between(found.clustered.low, found.clustered.high)]
        )
    rows.append(
        [
            f"the same, corrected for reviewers' errors ({found.reads['examples']:,} double reviews)",
            share(found.corrected.value),
            between(found.corrected.low, found.corrected.high),
        ]
    )
    rows.append(
        [
            "gain over random order",
            f"{number(found.gain.value)} times",
            between(found.gain.low, found.gain.high, number),
        ]
    )
    return rows


def show_decisions(
    paper: Paper, audit: Audit, log: ReviewLog, examples: pd.DataFrame, hidden: Mapping[str, str]
) -> None:
    """Adds the changed labels with their pictures, and the table of dispositions."""
    paper.section("Decisions, before and after")
    patch = corrected_labels(examples, log, audit.policy)
    waiting = patch["example_id"].map(hidden).eq(SECOND)
    if waiting.any():
        paper.say(f"{waiting.sum():,} decisions wait for a second reviewer and are left out here.", "note")
        patch = patch[~waiting]
    elif patch.empty:
        return paper.say(f"No decisions yet: run `hardlook dashboard {audit.root.name}`.", "note")
    counts = patch.groupby(["split", "disposition"]).size().unstack(fill_value=0)
    paper.table(["split", *counts.columns], [[split, *map(int, row)] for split, row in counts.iterrows()])
    changed = patch[patch["disposition"].isin(["relabel", "exclude"])]
    shown = changed.head(ROWS)
    paper.say(
        f"{len(shown):,} of {len(changed):,} corrections; all of them are in the patches of `hardlook export`.", "note"
    )
    paper.table(
        ["", "example", "split", "before", "after", "by", "issues", "note"],
        [
            [
                paper.image(row.example_id, 48),
                row.example_id,
                row.split,
                row.old_label,
                row.new_label if row.disposition == "relabel" else "left out",
                row.reviewer,
                ", ".join(row.issues),
                "" if pd.isna(row.note) else row.note,
            ]
            for row in shown.itertuples()
        ],
    )
    return None


def show_agreement(paper: Paper, log: ReviewLog, efforts: list[Effort]) -> None:
    """Adds the reviewers, their agreement, and the second readings."""
    paper.section("Reviewers and agreement")
    table = readers_table(log, ("reviewer",))
    if table.empty:
        return paper.say("No decisions yet.", "note")
    names = ["decided", "median seconds", "also decided by others", "agreement", "overturned"]
    paper.table(["reviewer", *names], _reader_rows(table, 1))
    measured = annotator_agreement.overall(log.decisions())
    if measured["n"]:
        paper.say(
            f"{number(measured['n'])} examples have several reviewers, who agree on {number(measured['percent'])} %, "
            + (
                f"Krippendorff's alpha {number(measured['alpha'])}."
                if measured["alpha"] is not None
                else f"{measured['no_alpha']}."
            )
        )
        if measured["rare"]:
            paper.say(annotator_agreement.RARE, "warning")
    consensus = log.consensus()
    wrong = int(wrong_labels(consensus).eq(True).sum())
    paper.say(
        f"{len(consensus):,} examples are decided; the label is wrong for {wrong:,} of them, and "
        f"{int((consensus['status'] == 'disputed').sum()):,} are disputed. If nearly all answers are “right”, percent "
        "agreement is high by chance alone.",
        "note",
    )
    reads = efforts[0].reads if efforts else {"true_errors": 0, "true_right": 0}
    if reads["true_errors"] and reads["true_right"]:
        paper.say(
            f"Blind double reviews: a single reviewer found {share(reads['found'] / reads['true_errors'])} of the "
            f"wrong labels and marked {share(1 - reads['passed'] / reads['true_right'])} of the right ones as wrong."
        )
    by_class = readers_table(log).sort_values("decided", ascending=False).head(ROWS)
    paper.heading("By reviewer and class")
    paper.table(["reviewer", "class", *names], _reader_rows(by_class, 2))
    return None


def _reader_rows(table: pd.DataFrame, keys: int) -> list[list[Any]]:
    return [
        [*row[:keys], row[keys], float(row[keys + 1]), row[keys + 2], share(row[keys + 3]), row[keys + 4]]
        for row in table.itertuples(index=False, name=None)
    ]
