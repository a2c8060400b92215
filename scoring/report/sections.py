"""The sections of the report: overview, grids, deciles, slices, decisions, agreement, effect, estimates, settings.

Everything is read from the audit's files and its log; the audit's own code is never imported, and nothing is fetched
when the file is opened. Sections without material say which command makes it. Text from the dataset and the team is
escaped by ``drawing``. Anybody may read it, so its lists hold no example of which somebody must not yet know what the
model or a first reader says (``scoring.queue.blinding``), and say how many are left out.

Inputs → outputs: an audit, a run, a log → one HTML text below 10 MB. Cost: seconds; one reading of each score file.
Limits: vectors and texts are shown by id; of long lists the first ones, and the report says of how many.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

import scoring
from scoring.audit import SPLITS, Audit, Run
from scoring.audit.storage import atomic_path, read_json, read_metadata, read_table
from scoring.corrections import corrected_metrics as metrics
from scoring.corrections.effect.conclusion import conclusion
from scoring.evaluation import accuracy_table
from scoring.queue.blinding import hidden_from_readers
from scoring.queue.estimates import effort
from scoring.report.html import Paper, between, number, share
from scoring.report.review_sections import ROWS, show_agreement, show_decisions, show_effort
from scoring.report.score_sections import show_deciles, show_grids, show_slices
from scoring.reviews import ReviewLog
from scoring.reviews.disposition import full_policy

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
    both, hidden = judged_labels(audit, run, log, examples), hidden_from_readers(audit, log)
    show_overview(paper, audit, run, examples, both)
    if audit.policy.get("test", "open") == "open" and (examples["split"] == "test").any():
        paper.say(OPEN, "warning")
    show_effort(paper, efforts)
    show_grids(paper, audit, run, examples, hidden)
    show_deciles(paper, run, both)
    show_slices(paper, audit, run, both, hidden)
    show_decisions(paper, audit, log, examples, hidden)
    show_agreement(paper, log, efforts)
    show_effect(paper, run)
    show_settings(paper, audit, run, log)
    return paper.html(f"Audit report: {audit.name}")


def judged_labels(audit: Audit, run: Run | None, log: ReviewLog, examples: pd.DataFrame) -> pd.DataFrame | None:
    """Returns what both labels make of each prediction; None where no label was changed."""
    if run is None or not run.predictions_path.is_file():
        return None
    predictions = read_table(run.predictions_path, ["example_id", "prediction"]).to_pandas()
    found = metrics.judged(examples[["example_id", "split", "label", "fingerprint"]], predictions, log, audit.policy)
    return found if (found["relabelled"] | ~found["kept"]).any() else None


def beside(both: pd.DataFrame | None, by: str) -> dict[str, list[str]]:
    """Group → [accuracy on corrected labels, how many were changed], for groups with changed labels."""
    if both is None:
        return {}
    table = metrics.by_group(both, (by,))
    pairs = zip(table[by], table["corrected"], metrics.changed(table), strict=True)
    return {name: [share(value), number(int(changed))] for name, value, changed in pairs if changed}


def show_overview(
    paper: Paper, audit: Audit, run: Run | None, examples: pd.DataFrame, both: pd.DataFrame | None
) -> None:
    """Adds the splits with their accuracy, and the hardest classes."""
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
        row += beside(both, "split").get(split, ["", ""]) if both is not None else []
    more = ["on corrected labels", "changed"] if both is not None else []
    paper.table(["split", "examples", "labelled", "unreadable", "accuracy", "95 % interval", *more], rows.values())
    part = predicted[predicted["split"] == "test"] if (predicted["split"] == "test").any() else predicted
    classes = accuracy_table(part, ["label"]).sort_values("accuracy").head(12)
    paper.heading("Hardest classes")
    split = "test" if (predicted["split"] == "test").any() else None
    corrected = beside(both if both is None or split is None else both[both["split"] == split], "label")
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


def show_effect(paper: Paper, run: Run | None) -> None:
    """Adds the result of ``hardlook refit``."""
    paper.section("Predicted effect of the corrections")
    found = read_json(run.refit_path) if run else None
    if not found:
        return paper.say("Not measured yet: run `hardlook refit`.", "note")
    edits, judged = found["edits"], found["judged_on"]
    paper.say(
        f"{edits['relabelled']:,} training labels changed, {edits['removed']:,} examples removed, of "
        f"{edits['train']:,}; evaluated on {judged['examples']:,} {judged['how']}. Placebo: {found['placebo']}."
    )
    whole = next(row for row in found["groups"] if row["group"] == "all")
    paper.say(f"Over all test examples: {conclusion(whole)}.")
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


def show_settings(paper: Paper, audit: Audit, run: Run | None, log: ReviewLog) -> None:
    """Adds checkpoints, versions, settings and notes of the scores."""
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
