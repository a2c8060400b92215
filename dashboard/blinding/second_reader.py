"""Answers that are hidden from a second reader: examples that one person has reviewed and that need a second review.

Routes, tables and filters use this module, so a hidden answer never reaches a browser. Hidden model output is the task
of ``dashboard.blinding.model_output``. Cost: one pass over the decided examples per new event. Limit: a person who can
read the audit's folder sees everything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from dashboard.auth.serving import serving
from dashboard.queries import database, decisions
from dashboard.queries.selection import source
from scoring.audit import Audit
from scoring.queue.second_reader_policy import ReviewPolicy

HIDDEN_ANSWER = "hidden until a second person has reviewed it"


def policy(audit: Audit) -> ReviewPolicy:
    """Returns the audit's review policy."""
    return _policy(database.stamp(audit.config_path))


@lru_cache(maxsize=4)
def _policy(_config: Any) -> ReviewPolicy:
    return ReviewPolicy.of(database.open_audit())


def is_blind_split(audit: Audit, split: str | None) -> bool:
    """Returns whether the model is hidden on examples of this split."""
    return split == "test" and policy(audit).is_blind


def waiting(audit: Audit) -> dict[str, str]:
    """Returns the examples that need a second reader, each with its first reader."""
    return _waiting(
        serving().log_url,
        decisions.last_position(audit),
        database.stamp(audit.config_path),
        database.stamp(audit.examples_path),
    )


@lru_cache(maxsize=4)
def _waiting(_url: str, _position: int, _config: Any, _examples: Any) -> dict[str, str]:
    audit = database.open_audit()
    log, rules = decisions.open_log(audit), policy(audit)
    consensus = log.consensus()
    settled = consensus.loc[consensus["status"] == "adjudicated", "example_id"]
    return rules.waiting(log.decisions(), settled, test_examples(audit) if rules.is_blind else None)


def test_examples(audit: Audit) -> dict[str, str]:
    """Returns the test examples, each with its split."""
    return _test_ids(database.stamp(audit.examples_path))


@lru_cache(maxsize=2)
def _test_ids(examples: Any) -> dict[str, str]:
    query = f"SELECT example_id FROM {source(Path(examples[0]))} WHERE split = 'test'"
    return dict.fromkeys(database.sql(query)["example_id"].to_pylist(), "test")


def hidden_from(audit: Audit, reviewer: str | None, among: Collection[str] | None = None) -> dict[str, str]:
    """Returns the examples whose only answer is hidden from this person, each with its reader. among: restricts the
    search to a few ids, which is faster."""
    found = waiting(audit) if among is None else _waiting_among(audit, set(among))
    return {example: reader for example, reader in found.items() if reader != reviewer}


def _waiting_among(audit: Audit, ids: set[str]) -> dict[str, str]:
    log, rules = decisions.open_log(audit), policy(audit)
    answers = log.decisions()
    answers = answers[answers["example_id"].isin(ids)]
    if not len(answers):
        return {}
    consensus = log.consensus()
    settled = consensus.loc[(consensus["status"] == "adjudicated") & consensus["example_id"].isin(ids), "example_id"]
    return rules.waiting(answers, settled, test_examples(audit) if rules.is_blind else None)


def visible_states(
    audit: Audit, states: Mapping[str, frozenset[str]], reviewer: str | None
) -> dict[str, frozenset[str]]:
    """Returns the states of ``dashboard.queries.decisions.state_at`` as visible to this person: other people's
    answers that wait for a second reader do not count."""
    hidden = frozenset(hidden_from(audit, reviewer))
    return {word: ids if word == "flagged" else ids - hidden for word, ids in states.items()}


def visible_status(audit: Audit, answer: dict[str, Any], reviewer: str | None) -> dict[str, Any]:
    """Returns the status of ``dashboard.queries.live_status`` as visible to this person. Every browser polls it once
    a second, so only the examples of the reply are looked up."""
    if not answer.get("examples"):
        return answer
    rules = policy(audit)
    test = test_examples(audit) if rules.is_blind else {}
    examples = {}
    for example, one in answer["examples"].items():
        answers = one["decisions"]
        waits = len(answers) == 1 and answers[0]["reviewer"] != reviewer and not one["settled"]
        if waits and rules.wants_second(example, answers[0]["verdict"], answers[0]["issues"], test.get(example)):
            answers = []
        examples[example] = {"decisions": answers, "flags": one["flags"], "notes": one["notes"]}
    return {**answer, "examples": examples}


def visible_events(audit: Audit, events: pd.DataFrame, reviewer: str | None) -> pd.DataFrame:
    """Returns the events; answers that are hidden from this person are blank, reviewer and time stay."""
    hidden = hidden_from(audit, reviewer)
    if not hidden or not len(events):
        return events
    rows = (events["action"] == "decide") & (events["example_id"].map(hidden) == events["reviewer"]).fillna(False)
    if not rows.any():
        return events
    shown = events.copy()
    shown.loc[rows, ["verdict", "new_label"]] = None
    shown.loc[rows, "note"] = HIDDEN_ANSWER
    for name in ("labels", "issues"):
        shown[name] = pd.Series(
            [() if row else one for row, one in zip(rows, shown[name], strict=True)], dtype=object, index=shown.index
        )
    return shown


# -- what is left to read ---------------------------------------------------------------------------------------------


def open_rows(audit: Audit, table: pa.Table) -> pa.Table:
    """Returns the rows of a queue that the visitor has to review (``scoring.queue.assignments.for_reviewer``), in
    order."""
    from datetime import UTC, datetime

    from scoring.queue.assignments import for_reviewer

    who = serving().identity
    if who.reviewer is None or not table.num_rows:
        return table
    ids = table["example_id"].to_pylist()
    queue = pd.DataFrame({"example_id": ids, "row": range(len(ids))})
    rules = policy(audit)
    if rules.is_blind:
        test = test_examples(audit)
        queue["split"] = [test.get(one, "other") for one in ids]
    found = for_reviewer(queue, decisions.open_log(audit), who.reviewer, datetime.now(UTC), policy=rules)
    return table.take(pa.array(found["row"].to_numpy(), pa.int64()))
