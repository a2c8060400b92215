"""Blinding: the examples whose model output or first review is hidden, and the reasons as texts.

    hidden = test examples where the policy reads test blind, for ever
           ∪ blind rows (``scoring.queue.random_controls.blind_rows``, where audit.toml sets a goal) until their first
           verdict ∪ examples that wait for a second reader, where a team reads (roles, or more than one reviewer in the
           log)

``hidden_from_readers`` is for what anybody may read, such as a report; pages (``dashboard.blinding.model_output``) ask
for whoever looks, who may be the first reader and may have asked for controls.

Inputs → outputs: an audit and its log → example_id → reason. Cost: one pass over the decided examples, one ranking per
split.
"""

from __future__ import annotations

from collections.abc import Iterable

from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.queue.random_controls import blind_rows
from scoring.queue.second_reader_policy import ReviewPolicy
from scoring.reviews import ReviewLog

TEST = "The test split is reviewed blind: the model's output on its examples is hidden from everyone."
FIRST = "Blind review: the model's output on this example is hidden until the first verdict."
SECOND = "Blind review: the model's output on this example is hidden until a second reviewer has decided."
WORDS = {
    TEST: "in the blind test split",
    FIRST: "until the first verdict",
    SECOND: "until a second reviewer has decided",
}


def hidden_from_readers(audit: Audit, log: ReviewLog) -> dict[str, str]:
    """Returns every example whose model output or first review is still hidden from someone → the reason."""
    rules, consensus, decided = ReviewPolicy.of(audit), log.consensus(), log.decisions()
    examples = read_table(audit.examples_path, ["example_id", "split"]).to_pandas()
    test = dict.fromkeys(examples.loc[examples["split"] == "test", "example_id"], "test") if rules.is_blind else {}
    run = audit.run(None) if audit.run_names() else None
    rows = blind_rows(audit, run) if audit.config.get("goal") else frozenset()
    settled = consensus.loc[consensus["status"] == "adjudicated", "example_id"]
    found = dict.fromkeys(rows - set(consensus["example_id"]), FIRST)
    if audit.config.get("roles") or decided["reviewer"].nunique() > 1:
        found |= dict.fromkeys(rules.waiting(decided, settled, test), SECOND)
    return found | dict.fromkeys(test, TEST)


def left_out(reasons: Iterable[str]) -> str:
    """Returns the sentence about examples that are left out.

    >>> print(left_out([FIRST, FIRST, TEST]))
    Left out, because the model's output on them is hidden: 1 in the blind test split; 2 until the first verdict.
    """
    given = list(reasons)
    parts = [f"{given.count(reason):,} {words}" for reason, words in WORDS.items() if reason in given]
    return f"Left out, because the model's output on them is hidden: {'; '.join(parts)}."
