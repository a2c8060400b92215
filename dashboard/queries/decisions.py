"""Decisions as pages read them: which examples are decided and how, and the progress of each reviewer.

Decisions are read through ``scoring.reviews``. A queue asks for the state at one *position* of the log, so its order
stays the same during a review. The log is append-only, so that state never changes and is derived once. The present
state follows the log event by event (``scoring.queue.standings``).

Cost: one query per page, and some 50 µs for each new event; a first reading of 100,000 events takes about two seconds.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.auth.serving import serving
from scoring.audit import Audit
from scoring.queue.standings import Standings
from scoring.reviews import ReviewLog
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


def standings(audit: Audit) -> Standings:
    """Returns how each example of this audit stands, with what is new in the log."""
    url = serving().log_url
    found = _standings(url, audit.log_name(url))
    found.look()
    return found


@lru_cache(maxsize=4)
def _standings(url: str, name: str) -> Standings:
    return Standings(_open_log(url, name))


def last_position(audit: Audit) -> int:
    """Returns the position of the audit's newest event, 0 for an empty log."""
    return standings(audit).position


def state_at(audit: Audit, as_of: int | None = None) -> dict[str, frozenset[str]]:
    """Returns the examples that are decided, given, other, …, flagged, disputed at position ``as_of`` of the log
    (None: now)."""
    now = standings(audit)
    if as_of is None or as_of >= now.position:
        return now.states()
    url = serving().log_url
    return _state_at(url, audit.log_name(url), as_of)


@lru_cache(maxsize=STATES)
def _state_at(url: str, name: str, as_of: int) -> dict[str, frozenset[str]]:
    log = _open_log(url, name)
    return group_by_state(log.consensus(as_of), log.decisions(as_of), log.flags(as_of))


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
