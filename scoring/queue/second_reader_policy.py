"""The second-reader policy: which examples need a second reviewer, what is hidden until then, and the warning on test.

``[policy]`` in audit.toml holds, beside the dispositions of ``scoring.corrections.label_patch``:

    test = "blind"            # test examples: no model outputs or scores shown, two readers, random ones mixed in
    second_opinions = 0.1     # the share of examples that a second person reads without seeing the first answer
    lock_minutes = 10         # how long an example that somebody looks at is kept from others

An example needs a second reader where it falls into the share (by hash of seed and id, so that nobody chooses), where
the policy sends its verdict or issue to one (an open one, *unsure*, always), or where test is blind and it is a test
example. Until two people have read it, only those two see their decisions.

Inputs → outputs: audit.toml and the log's tables → sets of example_ids. Cost: one pass over the decided examples.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.queue.standings import Stand
from scoring.reviews.disposition import SETTINGS, default_policy, disposition, full_policy
from scoring.reviews.verdicts import verdicts_by_label_status

SHARE = 0.1
LOCK_MINUTES = 10.0
TEST_MODES = ("open", "blind")
WARNING = (
    "Reviewers see examples first on which the model disagrees with the label, so corrections of test labels move "
    "the labels towards the model, and accuracy on the corrected labels is too high. Compare models on the original "
    'labels, or set `test = "blind"` under `[policy]` in audit.toml.'
)


@dataclass(frozen=True)
class ReviewPolicy:
    """A team's rules of reading, checked. ``seed`` fixes which examples fall into the share."""

    test: str = "open"
    second_opinions: float = SHARE
    lock_minutes: float = LOCK_MINUTES
    seed: int = 0
    dispositions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.test not in TEST_MODES:
            raise HardlookError(f"[policy] test = {self.test!r}; needed one of {', '.join(TEST_MODES)}")
        if not _is_number(self.second_opinions) or not 0 <= self.second_opinions <= 1:
            raise HardlookError(f"[policy] second_opinions = {self.second_opinions!r}; needed a share from 0 to 1")
        if not _is_number(self.lock_minutes) or not 0 < self.lock_minutes <= 24 * 60:
            raise HardlookError(
                f"[policy] lock_minutes = {self.lock_minutes!r}; needed minutes, above 0 and at most a day"
            )
        object.__setattr__(self, "dispositions", full_policy(self.dispositions))

    @classmethod
    def of(cls, audit: Audit) -> ReviewPolicy:
        """The rules of an audit."""
        policy = audit.policy
        _refuse_typing_errors(policy, [*SETTINGS, *default_policy(), *audit.issues])
        own = {name: policy[name] for name in ("test", "second_opinions", "lock_minutes") if name in policy}
        return cls(**own, seed=audit.seed, dispositions=policy)

    @property
    def is_blind(self) -> bool:
        """Returns whether test examples are read without the model."""
        return self.test == "blind"

    def is_drawn(self, example_id: str) -> bool:
        """Returns whether an example falls into the share that is read twice."""
        return drawn(self.seed, "second opinion", example_id) < self.second_opinions

    def wants_second(self, example_id: str, verdict: str | None, issues: Iterable[str], split: str | None) -> bool:
        """Returns whether one answer is not enough for an example."""
        if verdict in verdicts_by_label_status("open") or (self.is_blind and split == "test"):
            return True
        return self.is_drawn(example_id) or disposition(verdict, issues, self.dispositions)[0] == "second reader"

    def waiting(
        self, decisions: pd.DataFrame, adjudicated: Iterable[str] = (), splits: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Examples read once that need a second reader → who has read them.

        decisions: the log's, one row per (example, reviewer). adjudicated: examples that are settled. splits: split by
        example_id, needed where test is blind.
        """
        if not len(decisions):
            return {}
        once = decisions[~decisions.duplicated("example_id", keep=False)]
        once = once[~once["example_id"].isin(set(adjudicated))]
        rows = zip(once["example_id"], once["verdict"], once["issues"], once["reviewer"], strict=True)
        splits = splits or {}
        return {
            example: reviewer
            for example, verdict, issues, reviewer in rows
            if self.wants_second(example, None if pd.isna(verdict) else verdict, issues, splits.get(example))
        }

    def waiting_stands(self, stands: Mapping[str, Stand], splits: Mapping[str, str] | None = None) -> dict[str, str]:
        """Returns the same as ``waiting``, from stands by example."""
        splits = splits or {}
        once = (
            (one, stand.decisions[0])
            for one, stand in stands.items()
            if len(stand.decisions) == 1 and stand.status != "adjudicated"
        )
        return {
            one: answer.reviewer
            for one, answer in once
            if self.wants_second(one, answer.verdict, answer.issues, splits.get(one))
        }


def drawn(seed: int, what: str, example_id: str) -> float:
    """A number in [0, 1) that seed, purpose and example fix for ever.

    >>> drawn(0, "a", "x") == drawn(0, "a", "x") != drawn(1, "a", "x")
    True
    """
    digest = hashlib.sha256(f"{seed} {what} {example_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _refuse_typing_errors(policy: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raises ``HardlookError`` for a key that is nearly a known one. Other keys may be issues of earlier decisions."""
    names = sorted(set(known))
    for key in policy:
        close = [] if key in names else difflib.get_close_matches(key, names, n=1, cutoff=0.75)
        if close:
            raise HardlookError(
                f"[policy] has {key!r}, which is no verdict, issue or setting; did you mean {close[0]!r}?"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
