"""Answers that are hidden from a second reader: examples that one person has reviewed and that need a second review.

Routes, tables and filters use this module, so a hidden answer never reaches a browser. Hidden model output is the task
of ``dashboard.blinding.model_output``. Cost: what changed since the last look at the log. Limit: a person who can
read the audit's folder sees everything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from dashboard.auth.serving import serving
from dashboard.queries import database, decisions
from dashboard.queries.selection import source
from scoring.audit import Audit
from scoring.queue.assignments import Share
from scoring.queue.second_reader_policy import ReviewPolicy
from scoring.queue.standings import Followed

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


def waiting(audit: Audit) -> Mapping[str, str]:
    """Returns the examples that need a second reader, each with its first reader."""
    decisions.standings(audit)
    url = serving().log_url
    files = database.stamp(audit.config_path), database.stamp(audit.examples_path)
    return _waiting(url, audit.log_name(url), *files).now()


@lru_cache(maxsize=4)
def _waiting(_url: str, _name: str, _config: Any, _examples: Any) -> Followed[str]:
    audit = database.open_audit()
    rules = policy(audit)
    test = test_examples(audit) if rules.is_blind else None
    return Followed(decisions.standings(audit), lambda stands: rules.waiting_stands(stands, test))


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
    found = waiting(audit)
    named = found.items() if among is None else ((one, found[one]) for one in set(among) if one in found)
    return {example: reader for example, reader in named if reader != reviewer}


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


def share(audit: Audit, held: Mapping[str, str], among: Collection[str] | None = None) -> Share:
    """Returns which examples are the visitor's to review (``scoring.queue.assignments``). held: the locks; among:
    restricts the question to a few ids, which is faster."""
    now, waits = decisions.standings(audit), waiting(audit)
    read, given = now.states()["decided"], now.assignees()
    if among is not None:
        read = read.intersection(among)
        waits = {one: waits[one] for one in among if one in waits}
        given = {one: given[one] for one in among if one in given}
    return Share.of(serving().identity.name(), read, waits, given, held)
