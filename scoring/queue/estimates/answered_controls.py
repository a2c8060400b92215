"""The reviewed state of each label (wrong, right or open), and comparisons of reviewers.

    wrong: another class, no class, or several that leave the given one out      right: given, or several that hold it
    open: unsure, reviewers who differ without an adjudication, a decision without verdict, a control not blind

*Unsure* and everything else that is open counts as right in lower bounds and as wrong in upper ones, and not at all
in the estimate between. A control's answer is the last standing verdict that was given blind (``evidence.blind``), or
the adjudication: a reviewer who saw the model's opinion first agrees with it too often. Sensitivity and false alarms
are of single blind verdicts, where two reviewers read the same example blind and it is settled: both agree, or a lead
has decided. Two who err alike go unnoticed, so both figures flatter a little.

Inputs → outputs: the review log → data frames by example_id. Cost: one reading of the log.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from scoring.reviews import ReviewLog, decisions
from scoring.reviews.verdicts import label_is_wrong


def wrong_labels(decided: pd.DataFrame) -> pd.Series:
    """Per row of decisions or consensus: True where the given label is wrong, False where right, None where open.

    decisions: columns verdict, new_label, labels, label and, of a consensus, status.

    >>> rows = pd.DataFrame({"verdict": ["given", "other", "unsure", "several"], "new_label": [None, "b", None, None],
    ...     "labels": [(), (), (), ("a", "b")], "label": ["a"] * 4})
    >>> wrong_labels(rows).tolist()
    [False, True, None, False]
    """
    verdicts = decided[["verdict", "label", "new_label", "labels"]]
    found = [label_is_wrong(*row) for row in verdicts.itertuples(index=False, name=None)]
    result = pd.Series(found, index=decided.index, dtype=object)
    return result.mask(decided["status"] == "disputed", None) if "status" in decided else result


def blind_verdicts(log: ReviewLog) -> pd.DataFrame:
    """Standing decisions that were made blind, the last per example and reviewer: ``DECISION_COLUMNS`` and wrong."""
    events = log.events()
    blind = np.array([bool(seen and seen.get("blind")) for seen in events["evidence"]], dtype=bool)
    kept = events[decisions.not_undone(events) & blind & (events["action"] == "decide").to_numpy(dtype=bool)]
    kept = kept.drop_duplicates(["example_id", "reviewer"], keep="last")[list(decisions.DECISION_COLUMNS)]
    return kept.assign(wrong=wrong_labels(kept))


def control_answers(controls: pd.DataFrame, log: ReviewLog) -> pd.DataFrame:
    """The drawn controls with what is known of each: wrong (True, False, None), decided, blind, at.

    decisions: somebody gave a verdict, blind or not. blind: at least one verdict was. at: log position from which the
    answer is known; −1 where undecided.
    """
    consensus = log.consensus().set_index("example_id")
    read = blind_verdicts(log)
    answers = read.groupby("example_id")["wrong"].agg(
        lambda seen: seen.iloc[0] if seen.nunique(dropna=False) == 1 else None
    )
    ruled = consensus[consensus["status"] == "adjudicated"]
    answers = pd.concat([answers.drop(ruled.index, errors="ignore"), wrong_labels(ruled)])
    at = pd.concat([read.groupby("example_id")["position"].min(), consensus["position"]])
    at = at[~at.index.duplicated()]
    ids = controls["example_id"]
    spoken = consensus.index[consensus["verdict"].notna() | (consensus["status"] == "disputed")]
    wrong = ids.map(answers.to_dict()).astype(object)
    return controls.assign(
        wrong=wrong.where(wrong.notna(), None),
        decided=ids.isin(spoken),
        blind=ids.isin(read["example_id"]),
        at=ids.map(at).fillna(-1).astype(int),
    )


def double_reads(log: ReviewLog) -> dict[str, int]:
    """Returns how single blind verdicts compare with the settled answer → found, true_errors, passed, true_right,
    examples.

    >>> # found / true_errors is the sensitivity, passed / true_right the specificity
    """
    read = blind_verdicts(log)
    read = read[read.duplicated("example_id", keep=False)]
    consensus = log.consensus().set_index("example_id")
    truth = wrong_labels(consensus).reindex(read["example_id"]).to_numpy(dtype=object)
    verdicts = read["wrong"].to_numpy(dtype=object)
    settled = np.array([t is not None and s is not None and t == t for t, s in zip(truth, verdicts, strict=True)], bool)
    true, called_wrong = truth[settled].astype(bool), verdicts[settled].astype(bool)
    return {
        "found": int((called_wrong & true).sum()),
        "true_errors": int(true.sum()),
        "passed": int((~called_wrong & ~true).sum()),
        "true_right": int((~true).sum()),
        "examples": int(read["example_id"].nunique()),
    }


def readers_table(log: ReviewLog, by: tuple[str, ...] = ("reviewer", "label")) -> pd.DataFrame:
    """Per reviewer and class: decided, median seconds, also decided by others, share that agreed, overturned.

    agreement: of the decisions on examples that another reviewer decided too, the share whose answer all of them gave.
    overturned: decisions that an adjudication answered otherwise.
    """
    decided = log.decisions()
    if decided.empty:
        return pd.DataFrame(columns=[*by, "decided", "seconds", "shared", "agreement", "overturned"])
    answers = decisions.answers(decided.reset_index(drop=True)).to_numpy()
    decided = decided.reset_index(drop=True).assign(answer=answers)
    ruled = log.consensus()
    ruled = ruled[ruled["status"] == "adjudicated"].reset_index(drop=True)
    final = (
        dict(zip(ruled["example_id"], decisions.answers(ruled.assign(reviewer="")), strict=True)) if len(ruled) else {}
    )
    group = decided.groupby("example_id")["answer"]
    shared = group.transform("size") > 1
    same = (group.transform("nunique") == 1) & shared
    ruling = decided["example_id"].map(final)
    decided = decided.assign(shared=shared, same=same, overturned=ruling.notna() & (ruling != decided["answer"]))
    grouped = decided.groupby(list(by), dropna=False)
    table = grouped.agg(
        decided=("answer", "size"),
        seconds=("seconds", "median"),
        shared=("shared", "sum"),
        agreed=("same", "sum"),
        overturned=("overturned", "sum"),
    ).reset_index()
    table.insert(len(by) + 3, "agreement", table["agreed"] / table["shared"].where(table["shared"] > 0))
    return table.drop(columns="agreed")
