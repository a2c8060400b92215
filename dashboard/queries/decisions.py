"""Decisions as pages read them: which examples are decided and how, and the progress of each reviewer.

Decisions are read through ``scoring.reviews``. A queue asks for the state at one *position* of the log, so its order
stays the same during a review. The log is append-only, so that state never changes and is cached.

Cost: one query for new events per page; a first reading of 100,000 events takes about a second.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.auth.serving import serving
from dashboard.queries.log_tail import Tail
from scoring.audit import Audit
from scoring.reviews import ReviewLog
from scoring.reviews import decisions as verdicts
from scoring.reviews.verdicts import VERDICTS, verdicts_by_label_status, verdicts_with_field

STATES = 16
PROGRESS_STATES = ("decided", "given", "other", "disputed", "flagged")
"""The states that make up the progress of a review."""


def open_log(audit: Audit) -> ReviewLog:
    """Returns the review log of this audit, at the address that this process serves."""
    url = serving().log_url
    return _open_log(url, audit.log_name(url))


@lru_cache(maxsize=4)
def _open_log(url: str, name: str) -> ReviewLog:
    return ReviewLog.open(url, audit=name)


@lru_cache(maxsize=4)
def _tail(url: str, name: str) -> Tail:
    return Tail(_open_log(url, name))


def last_position(audit: Audit) -> int:
    """Returns the position of the audit's newest event, 0 for an empty log."""
    url = serving().log_url
    tail = _tail(url, audit.log_name(url))
    tail.look()
    return tail.position


def state_at(audit: Audit, as_of: int | None = None) -> dict[str, frozenset[str]]:
    """Returns the examples that are decided, given, other, …, flagged, disputed at position ``as_of`` of the log
    (None: now)."""
    last = last_position(audit)
    url = serving().log_url
    return _state_at(url, audit.log_name(url), last if as_of is None else min(as_of, last), last)


@lru_cache(maxsize=STATES)
def _state_at(url: str, name: str, as_of: int, last: int) -> dict[str, frozenset[str]]:
    log = _open_log(url, name)
    if as_of == last:
        return group_by_state(log.consensus(), log.decisions(), log.flags())
    events = log.events()
    events = events[events["position"] <= as_of].reset_index(drop=True)
    current = verdicts.not_undone(events)
    return group_by_state(*(rule(events, current) for rule in (verdicts.consensus, verdicts.decisions, verdicts.flags)))


def group_by_state(consensus: pd.DataFrame, decisions: pd.DataFrame, flags: pd.DataFrame) -> dict[str, frozenset[str]]:
    """Returns the example_ids of each of ``selection.decision_words`` from the log's tables; "undecided" is left
    out."""
    decided = frozenset(consensus["example_id"])
    by_verdict = {
        verdict: frozenset(consensus.loc[consensus["verdict"] == verdict, "example_id"]) for verdict in VERDICTS
    }
    issue = [len(names) > 0 for names in consensus["issues"]]
    return {
        "decided": decided | frozenset(decisions["example_id"]),
        **by_verdict,
        "issue": frozenset(consensus["example_id"][np.array(issue, dtype=bool)]),
        "disputed": frozenset(consensus.loc[consensus["status"] == "disputed", "example_id"]),
        "flagged": frozenset(flags["example_id"]),
    }


def filter_by_decision(table: pa.Table, decision: str | None, state: dict[str, frozenset[str]]) -> pa.Table:
    """Returns the rows of a ranking whose example is in that state; all rows for None."""
    if decision is None:
        return table
    named = state["decided"] if decision == "undecided" else state[decision]
    inside = pc.is_in(table["example_id"], value_set=pa.array(sorted(named), table.schema.field("example_id").type))
    return table.filter(pc.invert(inside) if decision == "undecided" else inside)


def progress(audit: Audit) -> pd.DataFrame:
    """Returns one row per reviewer: decided, relabelled, unsure, flagged, last decision, median seconds."""
    log = open_log(audit)
    decisions, flags = log.decisions(), log.flags()
    grouped = decisions.groupby("reviewer", sort=True)
    frame = pd.DataFrame(
        {
            "decided": grouped.size(),
            "relabelled": decisions["verdict"]
            .isin(verdicts_with_field("new_label"))
            .groupby(decisions["reviewer"])
            .sum(),
            "unsure": decisions["verdict"].isin(verdicts_by_label_status("open")).groupby(decisions["reviewer"]).sum(),
            "last": grouped["created_at"].max(),
            "seconds": grouped["seconds"].median(),
        }
    )
    flagged = flags.groupby("reviewer").size().rename("flagged")
    return frame.join(flagged, how="outer").fillna({"decided": 0, "relabelled": 0, "unsure": 0, "flagged": 0})
