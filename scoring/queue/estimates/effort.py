"""The results of the review of one split: errors found and remaining, yield, and whether the goal is reached.

    remaining = wrong labels in all − wrong labels found;   reached: its upper bound is below goal × labels
    next 100  = 100 × [(1 − share) × rate of the last 100 suspects + share × rate of the controls]

The bound comes from ``sequence`` and holds at any look; the rate with its interval from ``intervals``, raw and
corrected for reviewers' errors. "Wrong" is what reviewers call wrong; the correction says how far that goes.

Inputs → outputs: an audit, its log → ``Effort``; no controls are drawn by looking. Cost: one reading of the log and a
sort of the split per point of the history. Limits: what was found by rank counts when it was first decided; where a
goal becomes stricter, suspects that were decided with the model's opinion on screen may become controls, open until a
second reader, who sees nothing of the first, answers or a lead settles them, so a goal is best set before the first
decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from scoring.audit import Audit, Run
from scoring.audit.storage import read_table
from scoring.queue.estimates import answered_controls, intervals
from scoring.queue.estimates.confidence_sequence import total_bounds
from scoring.queue.estimates.intervals import Estimate
from scoring.queue.random_controls import Plan, chance_of_seeing, drawn_controls, fix_controls, plan
from scoring.reviews import ReviewLog
from scoring.reviews.verdicts import verdicts_by_label_status

BLOCK = 100
LOOKS = 24
"""Points of the history's plot."""


@dataclass(frozen=True)
class Effort:
    """What the decisions about one split come to.

    plan: the goal and how many controls it needs. labelled, decided, found, unsure: examples. drawn, counted,
    waiting, unblinded: controls planned, answered in their order, open among those, decided with scores on screen.
    rate: share of wrong labels; clustered: by ``group``, None without; corrected: for reviewers' errors. reads: what
    that rests on. remaining: wrong labels not yet found, with bounds at any look. next_hundred: expected finds. gain:
    suspects against chance. by_rank: yield per 100 suspects. history: decisions, found, low, high. readers: per
    reviewer and class.
    """

    split: str
    plan: Plan
    labelled: int
    decided: int
    found: int
    unsure: int
    drawn: int
    counted: int
    waiting: int
    unblinded: int
    rate: Estimate
    clustered: Estimate | None
    corrected: Estimate
    reads: dict[str, Any]
    remaining: Estimate
    next_hundred: float
    gain: Estimate
    by_rank: pd.DataFrame = field(repr=False)
    history: pd.DataFrame = field(repr=False)
    readers: pd.DataFrame = field(repr=False)

    @property
    def allowed(self) -> int:
        """Wrong labels that the goal lets remain: fewer than this."""
        return max(int(np.ceil(self.plan.error_rate * self.labelled)), 1)

    @property
    def reached(self) -> bool:
        """Returns whether the upper bound is below the goal: one may stop."""
        return self.remaining.high < self.allowed

    @property
    def sentence(self) -> str:
        """When to stop, in words."""
        if not self.counted:
            return (
                "No control has been decided blind yet, so the number of wrong labels that the ranking misses is "
                f"unknown. {self.plan.sentence}"
            )
        finds = "" if np.isnan(self.next_hundred) else f"The next 100 decisions find about {self.next_hundred:.0f}; w"
        summary = (
            f"{finds or 'W'}ith {self.plan.confidence:.0%} confidence fewer than {int(self.remaining.high) + 1:,} "
            f"wrong labels remain among {self.labelled:,}."
        )
        if self.reached:
            return f"{summary} The goal, fewer than {self.allowed:,}, is reached: you can stop."
        none, bound = chance_of_seeing(self.plan.error_rate, self.counted, self.plan.confidence)
        weak = (
            (
                f" {self.counted:,} controls are few: even without an error among them they could only show that "
                f"fewer than {bound:.2g} labels are wrong."
            )
            if none > 1 - self.plan.confidence
            else ""
        )
        settle = f" Deciding the {self.waiting:,} open controls narrows this interval." if self.waiting else ""
        if self.waiting and self.unblinded:
            settle += (
                f" {self.unblinded:,} controls were decided with the model's output on screen (for example as "
                "suspects before the goal became stricter): they count once a second reviewer has decided them blind "
                "or a lead has adjudicated them."
            )
        return f"{summary} The goal is fewer than {self.allowed:,}: go on.{weak}{settle}"


def effort(audit: Audit, run: Run | None, log: ReviewLog, split: str = "train") -> Effort:
    """Returns what the log's decisions about one split have bought. Fixes the controls if nobody has yet."""
    own = fix_controls(audit, run)
    own = own[own["split"] == split]
    planned = plan(audit.goal, len(own))
    controls = answered_controls.control_answers(drawn_controls(own, planned), log)
    examples = read_table(audit.examples_path).to_pandas().set_index("example_id").loc[own["example_id"]]
    consensus = log.consensus()
    consensus = consensus[consensus["example_id"].isin(own["example_id"])]
    decided = _decided(consensus, log, own)
    suspects = decided[~decided["example_id"].isin(controls["example_id"])]
    prefix = _prefix(controls)
    counts = _counts(own, prefix)
    raw = prefix["wrong"].notna()
    wrong = prefix["wrong"].eq(True)
    answered = counts["drawn"] - counts["open"]
    rate = Estimate(
        *(float(x) for x in intervals.rate_of_strata(counts["size"], answered, counts["errors"], planned.confidence))
    )
    reads = answered_controls.double_reads(log)
    base_n, base = int(raw.sum()), int(wrong.sum())
    found = int(decided["wrong"].eq(True).sum())
    history = _history(own, controls, decided, planned)
    low, high = history[["low", "high"]].iloc[-1]
    middle = np.nan if np.isnan(rate.value) else max(rate.value * len(own) - found, 0)
    known = suspects[suspects["wrong"].notna()]
    hits = known["wrong"].astype(bool)
    last = float(hits.tail(BLOCK).mean()) if len(hits) else rate.value
    chance = rate.value if base_n else last
    return Effort(
        split=split,
        plan=planned,
        labelled=len(own),
        decided=len(decided),
        found=found,
        unsure=int(consensus["verdict"].isin(verdicts_by_label_status("open")).sum()),
        drawn=len(controls),
        counted=base_n,
        waiting=int(len(prefix) - base_n),
        unblinded=int((controls["decided"] & ~controls["blind"]).sum()),
        rate=rate,
        clustered=_clustered(examples, prefix[raw], planned.confidence),
        corrected=intervals.rogan_gladen(
            base, base_n, *(reads[key] for key in ("found", "true_errors", "passed", "true_right"))
        ),
        reads=reads,
        remaining=Estimate(float(middle), float(low), float(high)),
        next_hundred=100 * ((1 - planned.share) * last + planned.share * chance),
        gain=intervals.rate_ratio(int(hits.sum()), len(hits), base, base_n),
        by_rank=_by_rank(hits, rate.value),
        history=history,
        readers=answered_controls.readers_table(log),
    )


def _decided(consensus: pd.DataFrame, log: ReviewLog, own: pd.DataFrame) -> pd.DataFrame:
    """One row per decided example in the order of first decisions: example_id, wrong, at."""
    first = log.decisions().groupby("example_id")["position"].min()
    at = consensus["example_id"].map(first).fillna(consensus["position"]).astype(int)
    frame = pd.DataFrame(
        {
            "example_id": consensus["example_id"],
            "wrong": answered_controls.wrong_labels(consensus),
            "at": at,
            "spoken": consensus["verdict"].notna() | (consensus["status"] == "disputed"),
        }
    )
    frame = frame[frame["spoken"].astype(bool)].merge(own[["example_id", "stratum"]], on="example_id")
    return frame.sort_values("at", ignore_index=True)


def _prefix(controls: pd.DataFrame, until: int | None = None) -> pd.DataFrame:
    """The controls of each stratum's decided prefix (up to a log position): what a gap hides is not counted."""
    there = controls["decided"] if until is None else controls["decided"] & (controls["at"] <= until)
    ordered = controls.assign(there=there).sort_values(["stratum", "place"])
    unbroken = ordered.groupby("stratum")["there"].cummin().astype(bool)
    return ordered[unbroken]


def _counts(own: pd.DataFrame, prefix: pd.DataFrame, decided: pd.DataFrame | None = None) -> pd.DataFrame:
    """Per stratum: size, drawn, errors, open, known_wrong, known_right. A row per stratum of the split."""
    frame = own.groupby("stratum")["example_id"].size().rename("size").to_frame()
    frame["drawn"] = prefix.groupby("stratum").size()
    frame["errors"] = prefix[prefix["wrong"].eq(True)].groupby("stratum").size()
    frame["open"] = prefix[prefix["wrong"].isna()].groupby("stratum").size()
    for name, value in (("known_wrong", True), ("known_right", False)):
        rows = decided[decided["wrong"].eq(value)] if decided is not None else prefix.iloc[:0]
        frame[name] = rows.groupby("stratum").size()
    return frame.fillna(0).astype(int)


def _history(own: pd.DataFrame, controls: pd.DataFrame, decided: pd.DataFrame, planned: Plan) -> pd.DataFrame:
    """At up to ``LOOKS`` moments: decisions, found, and the bounds on what remained then."""
    looks = np.unique(np.linspace(0, len(decided), min(len(decided), LOOKS) + 1).round().astype(int))
    rows = []
    for look in looks:
        until = int(decided["at"].iloc[look - 1]) if look else -1
        seen = decided.head(look)
        prefix = _prefix(controls, until)
        others = seen[~seen["example_id"].isin(prefix["example_id"])]
        counts = _counts(own, prefix, others)
        errors = counts["errors"]
        low, high = (
            total_bounds(
                counts["size"],
                counts["drawn"],
                errors,
                open_answers=counts["open"],
                known_wrong=errors + counts["known_wrong"],
                known_right=counts["drawn"] - errors - counts["open"] + counts["known_right"],
                error_rate=planned.error_rate,
                confidence=planned.confidence,
            )
            if len(counts)
            else (0, 0)
        )
        found = int(seen["wrong"].eq(True).sum())
        rows.append(
            {
                "decisions": int(look),
                "controls": len(prefix),
                "found": found,
                "low": max(low - found, 0),
                "high": max(high - found, 0),
            }
        )
    return pd.DataFrame(rows)


def _clustered(examples: pd.DataFrame, read: pd.DataFrame, confidence: float) -> Estimate | None:
    """The rate by the audit's ``group`` column, None where it has none."""
    if "meta.group" not in examples:
        return None
    group = examples["meta.group"].reindex(read["example_id"]).fillna("").astype(str).to_numpy()
    wrong = read["wrong"].astype(bool).groupby(group)
    return intervals.rate_by_cluster(wrong.sum(), wrong.size(), confidence)


def _by_rank(hits: pd.Series, chance: float) -> pd.DataFrame:
    """Per 100 suspects in the order decided: first, last, found, rate with interval, chance (random examples)."""
    rows, starts = [], list(range(0, len(hits), BLOCK))
    if len(starts) > 1 and len(hits) - starts[-1] < BLOCK // 4:
        starts.pop()  # a few more say nothing by themselves; they join the block before
    for start, end in pairwise([*starts, len(hits)]):
        block = hits.iloc[start:end]
        low, high = intervals.clopper_pearson(block.sum(), len(block))
        rows.append(
            {
                "first": start + 1,
                "last": start + len(block),
                "found": int(block.sum()),
                "rate": float(block.mean()),
                "low": float(low),
                "high": float(high),
                "chance": chance,
            }
        )
    return pd.DataFrame(rows, columns=["first", "last", "found", "rate", "low", "high", "chance"])
