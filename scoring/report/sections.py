"""The sections of the report: overview, grids, deciles, slices, decisions, agreement, effect, estimates, settings.

Everything is read from the audit's files and its log; the audit's own code is never imported, and nothing is fetched
when the file is opened. Sections without material say which command makes it. Text from the dataset and the team is
escaped by ``drawing``. Anybody may read it, so its lists hold no example of which somebody must not yet know what the
model or a first reader says (``scoring.queue.blinding``), and say how many are left out.

Inputs → outputs: an audit, a run, a log → one HTML text below 10 MB. Cost: seconds; one reading of each score file.
Limits: vectors and texts are shown by id; of long lists the first ones, and the report says of how many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import scoring
from scoring.audit import SPLITS, Audit, Run
from scoring.audit.storage import atomic_path, column_facts, read_json, read_metadata, read_schema, read_table
from scoring.corrections import corrected_metrics as metrics
from scoring.corrections.label_patch import corrected_labels
from scoring.evaluation import accuracy_table, error_by_decile
from scoring.queue.blinding import SECOND, hidden_from_readers, left_out
from scoring.queue.estimates import Effort, effort, readers_table, wrong_labels
from scoring.queue.order import default_order, suggestions, suspicion
from scoring.report.html import Paper, bars, between, histogram, number, share, stopping
from scoring.reviews import ReviewLog, annotator_agreement
from scoring.reviews.disposition import full_policy
from scoring.slices.slicing_run import read_slicing

SHEET, SLICES, ROWS, PLOTS, FEWEST = 24, 8, 60, 8, 24
OPEN = (
    'test = "open": reviewers saw the model\'s predictions and scores on test examples, and looked mostly where it '
    "disagrees with the label. Correcting only those inflates the measured accuracy. Read test numbers as upper "
    'bounds, or review test with [policy] test = "blind".'
)


def write_report(audit: Audit, run: Run | None, log: ReviewLog, path: Path) -> int:
    """Write the report, atomically → its size in bytes."""
    text = render(audit, run, log).encode("utf8", "backslashreplace")
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(text)
    return len(text)


def render(audit: Audit, run: Run | None, log: ReviewLog) -> str:
    """The whole report as HTML."""
    examples = read_table(audit.examples_path).to_pandas()
    paper = Paper(audit.thumbnails.get)
    now = datetime.now(UTC)
    paper.say(
        f"{len(examples):,} examples, {len(audit.classes):,} classes; run {run.name if run else '–'}; written "
        f"{now:%Y-%m-%d %H:%M} UTC by hardlook {scoring.__version__}.",
        "note",
    )
    efforts = [
        effort(audit, run, log, split)
        for split in SPLITS
        if (examples.loc[examples["split"] == split, "label"].notna()).any()
    ]
    both, hidden = _judged(audit, run, log, examples), hidden_from_readers(audit, log)
    _overview(paper, audit, run, examples, both)
    if audit.policy.get("test", "open") == "open" and (examples["split"] == "test").any():
        paper.say(OPEN, "warning")
    _bought(paper, efforts)
    _grids(paper, audit, run, examples, hidden)
    _deciles(paper, run, both)
    _slices(paper, audit, run, both, hidden)
    _decisions(paper, audit, log, examples, hidden)
    _agreement(paper, log, efforts)
    _effect(paper, run)
    _how(paper, audit, run, log)
    return paper.html(f"Audit report: {audit.name}")


def _judged(audit: Audit, run: Run | None, log: ReviewLog, examples: pd.DataFrame) -> pd.DataFrame | None:
    """What both labels make of each prediction; None where no label was changed."""
    if run is None or not run.predictions_path.is_file():
        return None
    predictions = read_table(run.predictions_path, ["example_id", "prediction"]).to_pandas()
    found = metrics.judged(examples[["example_id", "split", "label", "fingerprint"]], predictions, log, audit.policy)
    return found if (found["relabelled"] | ~found["kept"]).any() else None


def _beside(both: pd.DataFrame | None, by: str) -> dict[str, list[str]]:
    """Group → [accuracy on corrected labels, how many were changed], for groups with changed labels."""
    if both is None:
        return {}
    table = metrics.by_group(both, (by,))
    pairs = zip(table[by], table["corrected"], metrics.changed(table), strict=True)
    return {name: [share(value), number(int(changed))] for name, value, changed in pairs if changed}


def _overview(paper: Paper, audit: Audit, run: Run | None, examples: pd.DataFrame, both: pd.DataFrame | None) -> None:
    paper.section("Overview")
    by_split = examples.groupby("split", sort=False)
    rows = {
        split: [split, len(part), int(part["label"].notna().sum()), int(part["problem"].notna().sum())]
        for split, part in by_split
    }
    if run is None or not run.predictions_path.is_file():
        paper.table(["split", "examples", "labelled", "unreadable"], rows.values())
        paper.say(f"No predictions yet: run `hardlook score {audit.root.name}`.", "note")
        return
    predicted = read_table(run.predictions_path).to_pandas()
    accuracy = accuracy_table(predicted, ["split"]).set_index("split")
    for split, row in rows.items():
        there = split in accuracy.index
        row += [
            share(accuracy.loc[split, "accuracy"]) if there else "–",
            between(*accuracy.loc[split, ["low", "high"]]) if there else "–",
        ]
        row += _beside(both, "split").get(split, ["", ""]) if both is not None else []
    more = ["on corrected labels", "changed"] if both is not None else []
    paper.table(["split", "examples", "labelled", "unreadable", "accuracy", "95 % interval", *more], rows.values())
    part = predicted[predicted["split"] == "test"] if (predicted["split"] == "test").any() else predicted
    classes = accuracy_table(part, ["label"]).sort_values("accuracy").head(12)
    paper.heading("Hardest classes")
    split = "test" if (predicted["split"] == "test").any() else None
    corrected = _beside(both if both is None or split is None else both[both["split"] == split], "label")
    paper.table(
        ["class", "examples", "accuracy on given labels", "95 % interval", *more],
        [
            [
                row.label,
                row.n,
                share(row.accuracy),
                between(row.low, row.high),
                *(corrected.get(row.label, ["", ""]) if more else []),
            ]
            for row in classes.itertuples()
        ],
    )


def _bought(paper: Paper, efforts: list[Effort]) -> None:
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


def _shown(paper: Paper, ids: Iterable[str], hidden: Mapping[str, str]) -> list[str]:
    """The examples of a ranking that are not hidden, and a note about the others."""
    ids = list(ids)
    if gone := [hidden[one] for one in ids if one in hidden]:
        paper.say(left_out(gone), "note")
    return [one for one in ids if one not in hidden]


def _grids(paper: Paper, audit: Audit, run: Run | None, examples: pd.DataFrame, hidden: Mapping[str, str]) -> None:
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
    top = _shown(paper, ranked.sort_values(ascending=False, kind="stable").index, hidden)[:SHEET]
    suggested = suggestions(audit, run, labels[top]).set_index("example_id")["suggested_label"]
    paper.sheet((name, f"{labels[name]} → {suggested.get(name, '?')}") for name in top)
    path, column = run.score_path("vog"), vog_column(run)
    if column is not None:
        values = read_table(path, ["example_id", column]).to_pandas().set_index("example_id")[column].dropna()
        values = values[~values.index.isin(list(hidden))]
        for title, some in (("Lowest VoG", values.nsmallest(SHEET)), ("Highest VoG", values.nlargest(SHEET))):
            paper.heading(title)
            paper.sheet((name, f"{labels[name]} · {number(value)}") for name, value in some.items())


def _deciles(paper: Paper, run: Run | None, both: pd.DataFrame | None = None) -> None:
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


def _slices(paper: Paper, audit: Audit, run: Run | None, both: pd.DataFrame | None, hidden: Mapping[str, str]) -> None:
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
    _shown(paper, sorted(named if blind else named.union(*(row["nearest"] for row in worst))), hidden)
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


def _decisions(paper: Paper, audit: Audit, log: ReviewLog, examples: pd.DataFrame, hidden: Mapping[str, str]) -> None:
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


def _agreement(paper: Paper, log: ReviewLog, efforts: list[Effort]) -> None:
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


def _effect(paper: Paper, run: Run | None) -> None:
    paper.section("Effect of the corrections")
    found = read_json(run.refit_path) if run else None
    if not found:
        return paper.say("Not measured yet: run `hardlook refit`.", "note")
    edits, judged = found["edits"], found["judged_on"]
    paper.say(
        f"{edits['relabelled']:,} training labels changed, {edits['removed']:,} examples removed, of "
        f"{edits['train']:,}; evaluated on {judged['examples']:,} {judged['how']}. Placebo: {found['placebo']}."
    )
    rows = [row for row in found["groups"] if row["n"]][:ROWS]
    paper.table(
        ["group", "n", "original labels", "reviewed labels", "placebo", "gain, points (95 %)", "predicted Δ loss"],
        [
            [
                row["group"],
                row["n"],
                share(row["original"]),
                share(row["reviewed"]),
                share(row["placebo"]),
                f"{100 * row['gain']:+.2f} ({100 * row['gain_low']:+.2f} to {100 * row['gain_high']:+.2f})",
                row["change"],
            ]
            for row in rows
        ],
    )
    return None


def _how(paper: Paper, audit: Audit, run: Run | None, log: ReviewLog) -> None:
    paper.section("How everything was computed")
    record = run.record() if run else {}
    facts = [("hardlook", scoring.__version__), ("seed", audit.seed), ("log position", log.position())]
    facts += [(f"version of {name}", value) for name, value in record.get("versions", {}).items() if name != "hardlook"]
    facts += [(f"run: {key}", value) for key, value in record.get("configuration", {}).items()]
    facts += [
        ("policy", ", ".join(f"{key} → {value}" for key, value in full_policy(audit.policy).items())),
        ("controls", "seeded permutation per split, stratified by initial suspicion, in controls.parquet"),
        (
            "rate",
            "Horvitz-Thompson; Clopper-Pearson without replacement below ten errors, else mid-P of effective counts "
            "(Korn & Graubard 1998)",
        ),
        (
            "remaining",
            "confidence sequence, prior-posterior-ratio martingale without replacement (Waudby-Smith & Ramdas 2020), "
            "strata combined as Spertus & Stark 2022",
        ),
        ("corrected", "Rogan & Gladen 1978, interval of Lang & Reiczigel 2014"),
    ]
    paper.facts(facts)
    if run:
        paper.table(
            ["score", "parameters", "of"],
            [
                [
                    name,
                    ", ".join(f"{key} = {value}" for key, value in kept.get("parameters", {}).items()) or "defaults",
                    f"hardlook {kept.get('hardlook', '?')}",
                ]
                for name in run.score_names()
                for kept in [read_metadata(run.score_path(name))]
            ],
        )
        paper.table(
            ["checkpoint", "sha256"],
            [[each.get("when", each["path"]), each["sha256"][:16]] for each in record.get("checkpoints", [])],
        )
