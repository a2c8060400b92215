"""The agenda of a team's meeting: disputes, flagged examples, and the least accurate slices.

Inputs → outputs: the log and a run's slices → items [{kind, example_id, examples, title, why}]. Cost: the log's derived
tables and one small file per slicing. Limit: a slice is discussed by its most central examples.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pandas as pd

from scoring.audit import Run
from scoring.reviews.review_log import ReviewLog
from scoring.reviews.verdicts import verdicts_by_label_status

KINDS = ("dispute", "flag", "slice")


SLICES = 5


def agenda(
    log: ReviewLog,
    run: Run | None = None,
    *,
    slices: int = SLICES,
    among: Iterable[str] | None = None,
    blind: Collection[str] = (),
    hidden: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Disputes, then flagged examples, then the worst slices: [{kind, example_id, examples, title, why}].

    among: only these examples (a filter by metadata), slices included by their most central member; None: all. blind:
    splits that are reviewed blind, whose slices would reveal the model's output. hidden: examples whose model output is
    hidden from everyone (``scoring.queue.blinding``); a slice shows its others.
    """
    allowed = None if among is None else set(among)
    items = [*_disputes(log), *_flagged(log), *_slices(run, slices, blind, frozenset(hidden))]
    seen: set[tuple[str, str]] = set()
    kept = []
    for item in items:
        twice = item["kind"] == "flag" and ("dispute", item["example_id"]) in seen
        if not twice and (allowed is None or item["example_id"] in allowed):
            seen.add((item["kind"], item["example_id"]))
            kept.append(item)
    return kept


def _disputes(log: ReviewLog) -> list[dict[str, Any]]:
    consensus = log.consensus()
    several = consensus["reviewers"].map(len) > 1
    open_ones = (consensus["status"] == "disputed") | (
        (consensus["status"] == "agreed") & consensus["verdict"].isin(verdicts_by_label_status("open")) & several
    )
    rows = consensus[open_ones].sort_values("position")
    return [
        _item(
            "dispute",
            row.example_id,
            "Dispute" if row.status == "disputed" else "Unsure",
            f"{', '.join(row.reviewers)} {'differ' if row.status == 'disputed' else 'are all unsure'}",
        )
        for row in rows.itertuples()
    ]


def _flagged(log: ReviewLog) -> list[dict[str, Any]]:
    return [
        _item(
            "flag",
            row.example_id,
            "Flagged",
            f"flagged by {row.reviewer}" + ("" if pd.isna(row.note) else f": {row.note}"),
        )
        for row in log.flags().itertuples()
    ]


def _slices(run: Run | None, most: int, blind: Collection[str], hidden: frozenset[str]) -> list[dict[str, Any]]:
    """The least accurate slices of all kept slicings, with members that may be shown."""
    found = []
    if run is None:
        return []
    for name in run.slicing_names():
        summary = run.slicing_summary(name)
        if summary.get("settings", {}).get("split") in blind:
            continue
        for one in summary.get("slices", []):
            members = [example for example in one.get("nearest") or () if example not in hidden]
            if one.get("accuracy") is not None and members:
                found.append((one["accuracy"], -one["size"], name, one, members))
    found.sort(key=lambda one: one[:3])
    return [
        _item(
            "slice",
            members[0],
            f"Slice {one['slice_id']} of {name}",
            f"accuracy {100 * one['accuracy']:.3g} % on {one['size']:,} examples",
            members[:6],
        )
        for _, _, name, one, members in found[:most]
    ]


def _item(kind: str, example_id: str, title: str, why: str, examples: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "kind": kind,
        "example_id": example_id,
        "examples": list(examples) or [example_id],
        "title": title,
        "why": why,
    }
