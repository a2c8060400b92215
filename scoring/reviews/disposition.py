"""The policy that maps verdicts and issues to what happens to an example.

Each verdict and each issue names one of

    keep < relabel < second reader < exclude

and the strongest one that applies wins; issues that the policy does not name change nothing. ``default_policy`` holds
where ``[policy]`` in audit.toml says nothing else, key by key.

Inputs → outputs: a verdict, issues and a policy → a disposition and its reason. Cost: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.reviews.verdicts import VERDICTS

DISPOSITIONS = ("keep", "relabel", "second reader", "exclude")  # from the weakest to the strongest


ISSUES = {"bad image": "exclude"}
"""What becomes of an example with an issue, by default; one that stands not here changes nothing."""


SETTINGS = ("test", "second_opinions", "lock_minutes")  # keys of [policy] that are no disposition


def default_policy() -> dict[str, str]:
    """Returns what becomes of an example where a team says nothing else: verdict or issue → disposition."""
    return {name: kind.disposition for name, kind in VERDICTS.items()} | ISSUES


def full_policy(policy: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The default policy with a team's own words on top: verdict or issue → disposition.

    >>> full_policy({"none": "second reader", "duplicate": "exclude"})["none"]
    'second reader'
    """
    own = {key: value for key, value in (policy or {}).items() if key not in SETTINGS}
    for key, value in own.items():
        if value not in DISPOSITIONS:
            raise HardlookError(f"[policy] {key} = {value!r}; needed one of {', '.join(DISPOSITIONS)}")
        if value == "relabel" and (key not in VERDICTS or VERDICTS[key].takes is None):
            raise HardlookError(f"[policy] {key} = 'relabel', but {key!r} gives no new label; use another disposition")
    return {**default_policy(), **own}


def disposition(verdict: str | None, issues: Iterable[str], policy: Mapping[str, str]) -> tuple[str, str | None]:
    """Returns what happens to an example, and the issue that decided it where it was not the verdict.

    >>> policy = default_policy()
    >>> disposition("given", ["bad image"], policy), disposition("other", ["duplicate"], policy)
    (('exclude', 'bad image'), ('relabel', None))
    """
    chosen, because = policy[verdict] if verdict in VERDICTS else "keep", None
    for issue in issues:
        named = policy.get(issue, "keep")
        if DISPOSITIONS.index(named) > DISPOSITIONS.index(chosen):
            chosen, because = named, issue
    return chosen, because
