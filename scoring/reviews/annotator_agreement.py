"""Inter-annotator agreement per pair, per class and overall, in percent and as Krippendorff's alpha.

    alpha = 1 - D_observed / D_expected        (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability",
    nominal)

Alpha is 1 for perfect agreement, 0 for what chance would give, from the library ``krippendorff``. Chance-corrected
figures collapse where nearly all answers are alike: two reviewers who both say "the label is right" 98 times of 100 and
differ twice agree in 98 % and have an alpha near 0. The percentage is then the better figure, and ``rare`` says so.

Inputs → outputs: the log's decisions → data frames. What counts as an answer is ``scoring.reviews.decisions``'s: the
true label that it names, several, none or unsure. Cost: one pass per pair of reviewers. Limits: answers are compared as
they stand now, after whatever people changed on seeing each other's; nominal scale.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from scoring.reviews import decisions as verdicts
from scoring.reviews.verdicts import verdicts_by_label_status

COLUMNS = ("n", "agreed", "percent", "alpha", "right", "rare", "no_alpha")
ALL_ALIKE = "alpha needs at least two different answers: identical answers would agree by chance alone"
MOSTLY = 0.9
RARE = (
    f"More than {MOSTLY:.0%} of these answers are that the label is right. Chance-corrected agreement is unreliable "
    "then: alpha can be near 0 although reviewers rarely disagree. Use the percentage."
)


def answered(decisions: pd.DataFrame) -> pd.DataFrame:
    """example_id, reviewer, label, verdict, answer of each decision with a verdict on an example that two people
    read."""
    with_verdict = decisions[decisions["verdict"].notna()].reset_index(drop=True)
    shared = with_verdict[with_verdict.duplicated("example_id", keep=False)].reset_index(drop=True)
    answer = verdicts.answers(shared) if len(shared) else pd.Series([], dtype=object)
    return shared[["example_id", "reviewer", "label", "verdict"]].assign(answer=answer)


def overall(decisions: pd.DataFrame) -> pd.Series:
    """All reviewers together: ``COLUMNS``."""
    return pd.Series(_measured(answered(decisions)))


def by_pair(decisions: pd.DataFrame) -> pd.DataFrame:
    """One row per pair of reviewers who read some example both: first, second and ``COLUMNS``."""
    found = answered(decisions)
    rows = []
    for first, second in combinations(sorted(found["reviewer"].unique()), 2):
        pair = found[found["reviewer"].isin([first, second])]
        pair = pair[pair.duplicated("example_id", keep=False)]
        if len(pair):
            rows.append({"first": first, "second": second, **_measured(pair)})
    return _frame(rows, ["first", "second", *COLUMNS])


def by_class(decisions: pd.DataFrame) -> pd.DataFrame:
    """One row per given label: class and ``COLUMNS``."""
    found = answered(decisions)
    rows = [{"class": name, **_measured(part)} for name, part in found.groupby("label", sort=True)]
    return _frame(rows, ["class", *COLUMNS])


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Rows with alpha as a number that may be null."""
    return pd.DataFrame(rows, columns=columns).astype({"alpha": "Float64", "no_alpha": "object"})


def _measured(found: pd.DataFrame) -> dict[str, Any]:
    """n examples, how many of them all their readers answer alike, that share, alpha or why there is none, share of
    "right"."""
    n = int(found["example_id"].nunique())
    if not n:
        return dict.fromkeys(COLUMNS) | {"n": 0, "agreed": 0, "rare": False}
    agreed = int((found.groupby("example_id")["answer"].nunique() == 1).sum())
    right = float(found["verdict"].isin(verdicts_by_label_status("right")).mean())
    measured = alpha(found)
    return {
        "n": n,
        "agreed": agreed,
        "percent": 100 * agreed / n,
        "alpha": measured,
        "right": right,
        "rare": right > MOSTLY,
        "no_alpha": ALL_ALIKE if measured is None else None,
    }


def alpha(found: pd.DataFrame) -> float | None:
    """Krippendorff's alpha of answers (columns example_id, reviewer, answer); None where all answers are one and the
    same.

    >>> alpha(pd.DataFrame({"example_id": ["a", "a", "b", "b"], "reviewer": ["x", "y"] * 2, "answer": list("ssTT")}))
    1.0
    """
    import krippendorff

    if found["answer"].nunique() < 2:
        return None  # D_expected is 0, and alpha 0/0
    codes = pd.DataFrame(
        {
            "example": found["example_id"],
            "reviewer": found["reviewer"],
            "code": pd.factorize(found["answer"])[0].astype(float),
        }
    )
    table = codes.pivot_table(index="reviewer", columns="example", values="code", aggfunc="last")
    return float(krippendorff.alpha(reliability_data=table.to_numpy(dtype=np.float64), level_of_measurement="nominal"))
