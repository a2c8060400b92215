"""The order of a review queue, and the suggested label of each example.

A ranking is not a probability of error and is never shown as one. The default order is *suspicion*
(``scoring.queue.suspicion``), where it was computed; else the score that has earned it on recorded training (AUM of the
training forward, Pleiss et al. 2020; else data-map confidence, Swayamdipta et al. 2020); else the last checkpoint's
loss, which is in-sample on train and says so.

The *suggested label* is the most probable class other than the given one: from out-of-fold probabilities where there
are some, else from the mean over epochs, else from the last checkpoint. A memorised model predicts the wrong labels
that it was given, so the source is part of the suggestion.

Inputs are a run's files; outputs are data frames by example_id. Cost: one read of (n, c) probabilities. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.scored_classes import scored_classes
from scoring.audit.storage import column_facts, read_json, read_schema, read_table, read_vectors
from scoring.evaluation.probabilities import other_than, softmax

SOURCES = ("out-of-fold probabilities", "mean over epochs", "last checkpoint")


@dataclass(frozen=True)
class Order:
    """How a queue is ranked: ``<scorer>.<column>``, which end comes first, and a sentence that says why."""

    score: str
    suspicious: str
    sentence: str

    @property
    def scorer(self) -> str:
        """The scorer's name."""
        return self.score.split(".", 1)[0]

    @property
    def column(self) -> str:
        """The column's name."""
        return self.score.split(".", 1)[1]


def _covers(path: Path, column: str, ids: set[str] | None) -> bool:
    """Returns whether a score file exists and has numbers (for some of these examples)."""
    if not path.is_file() or column not in read_schema(path).names:
        return False
    table = read_table(path, ["example_id", column])
    present = table.filter(pc.is_valid(table[column]))
    if ids is None:
        return present.num_rows > 0
    return any(value in ids for value in present["example_id"].to_pylist())


def default_order(audit: Audit, run: Run, split: str = "train") -> Order | None:
    """The order that /suspects starts with, or None where the run has no score for this split at all."""
    examples = read_table(audit.examples_path, ["example_id", "split"]).to_pandas()
    ids = set(examples.loc[examples["split"] == split, "example_id"])
    sample = "in-sample: the model was trained on these labels" if split == "train" else "out-of-sample"
    sentence = read_json(run.rankings_path, {}).get("sentence") or "Most suspicious first"
    candidates = (
        Order("suspicion.suspicion", "high", sentence),
        Order(
            "aum.aum",
            "low",
            "Lowest area under the margin (AUM) first: during the recorded training, another class had a larger "
            "logit than the label",
        ),
        Order(
            "data_map.confidence",
            "low",
            "Lowest data-map confidence first: the label had a low probability over the epochs of training",
        ),
        Order("uncertainty.loss", "high", f"Highest loss of the last checkpoint first ({sample})"),
        Order("uncertainty.entropy", "high", "Highest entropy of the last checkpoint first"),
    )
    for order in candidates:
        if _covers(run.score_path(order.scorer), order.column, ids):
            return order
    return None


def suspicion(run: Run, order: Order) -> pd.Series:
    """The order's score turned so that higher is inspected first, indexed by example_id; NaN = not scored."""
    path = run.score_path(order.scorer)
    if not path.is_file():
        raise HardlookError(f"run {run.name!r} has no {order.scorer!r} scores; run `hardlook score {run.root}`")
    frame = read_table(path, ["example_id", order.column]).to_pandas().set_index("example_id")
    values = frame[order.column].astype("float64")
    return values if order.suspicious == "high" else -values


def order_by(run: Run, score: str) -> Order:
    """The order by any ``<scorer>.<column>``: its own suspicious end, or the measured one, high where neither."""
    order = Order(score, "high", f"By {score}, highest first")
    path = run.score_path(order.scorer)
    if not path.is_file() or order.column not in read_schema(path).names:
        raise HardlookError(f"run {run.name!r} has no score {score!r}; it has {', '.join(run.score_names()) or 'none'}")
    facts = column_facts(read_schema(path).field(order.column))
    end = facts.get("suspicious", "high")
    if end == "measured":
        measured = run.record().get("directions", {}).get(score, {})
        end = measured.get("hard") or "high"
    return Order(score, end, f"By {facts.get('title', score)}, {end}est first")


def _probability_sources(run: Run) -> Iterator[tuple[str, Path, bool]]:
    """(source, path, are logits) of every table of class probabilities that the run has, best first."""
    yield SOURCES[0], run.out_of_fold_path, False
    for training in ("main", "checkpoints"):
        yield SOURCES[1], run.mean_probabilities_path(training), False
    yield SOURCES[2], run.logits_path, True


def suggestions(audit: Audit, run: Run, labels: pd.Series | None = None) -> pd.DataFrame:
    """The suggested label of every example that has probabilities, from the best source that covers it.

    labels: given labels by example_id, where suggestions are wanted for some examples alone (a page of a queue); only
    their probabilities are read. Columns: example_id, suggested_label (class name), p_suggested, source (one of
    ``SOURCES``).
    """
    if labels is None:
        examples = read_table(audit.examples_path, ["example_id", "label"]).to_pandas().set_index("example_id")
    else:
        examples = labels.rename("label").to_frame()
    names = scored_classes(audit, run)
    position = {name: number for number, name in enumerate(names)}
    classes = np.asarray([*names, None], dtype=object)
    found: list[pd.DataFrame] = []
    seen: set[str] = set()
    for source, path, are_logits in _probability_sources(run):
        if not path.exists():
            continue
        ids, values = read_vectors(path, None if labels is None else labels.index)
        new = np.asarray([i for i, name in enumerate(ids) if name not in seen and name in examples.index], dtype=int)
        new = new[np.isfinite(values[new]).all(1)] if len(new) else new
        if not len(new):
            continue
        probabilities = softmax(values[new]) if are_logits else values[new]
        given = examples.loc[ids[new], "label"].map(position).fillna(-1).astype(int).to_numpy()
        best, p = other_than(probabilities, given)
        found.append(
            pd.DataFrame({"example_id": ids[new], "suggested_label": classes[best], "p_suggested": p, "source": source})
        )
        seen.update(ids[new])
    if not found:
        return pd.DataFrame(columns=["example_id", "suggested_label", "p_suggested", "source"])
    return pd.concat(found, ignore_index=True)


def truth_report(audit: Audit, run: Run, order: Order, split: str) -> tuple[pd.DataFrame, int, int] | None:
    """Returns where labels are verified: what the first 5 % and 10 % of a ranking find → (table, wrong, labelled), or
    None."""
    from scoring.data.examples import truth
    from scoring.evaluation import found_within

    verified = truth(audit)
    if verified is None or order is None:
        return None
    examples = read_table(audit.examples_path, ["example_id", "split", "label"]).to_pandas().set_index("example_id")
    examples = examples[(examples["split"] == split) & examples["label"].notna()]
    true = verified.set_index("example_id")["true_label"].reindex(examples.index)
    known = true.notna().to_numpy()
    wrong = (true.astype(str) != examples["label"].astype(str)).to_numpy()[known]
    scores = suspicion(run, order).reindex(examples.index).to_numpy()[known]
    return found_within(scores, wrong), int(wrong.sum()), int(known.sum())


def opinions(audit: Audit, run: Run, ids: Iterable[str]) -> dict[str, str]:
    """The class that a run finds most probable for some examples, from the best source that covers each."""
    left = set(ids)
    classes = scored_classes(audit, run)
    found: dict[str, str] = {}
    for _source, path, _are_logits in _probability_sources(run):
        if not left or not path.exists():
            continue
        names, values = read_vectors(path, left)
        if len(names):
            sound = np.flatnonzero(np.isfinite(values).all(1))
            found |= {names[at]: classes[int(values[at].argmax())] for at in sound}
        left -= set(found)
    return found


def together(groups: Iterable[str | None]) -> np.ndarray:
    """The order that keeps the members of each group together, each group at the place of its first member.

    groups: (n,) names in the order of the queue, null where an example is in no group. → (n,) positions.

    >>> together(["a", None, "b", "a"]).tolist()
    [0, 3, 1, 2]
    """
    first: dict[str, int] = {}
    places = [at if name is None else first.setdefault(name, at) for at, name in enumerate(groups)]
    return np.argsort(np.array(places, dtype=np.int64), kind="stable")


def suspects(audit: Audit, run: Run, order: Order, split: str, share: float = 0.2) -> pd.DataFrame:
    """The most suspicious ``share`` of a split under an order: example_id, label, suggested_label.

    Examples without a label or a suggestion are left out: between which classes suspects lie is asked of the others.
    """
    examples = read_table(audit.examples_path, ["example_id", "split", "label"]).to_pandas().set_index("example_id")
    labels = examples.loc[(examples["split"] == split) & examples["label"].notna(), "label"]
    ranked = suspicion(run, order).reindex(labels.index).dropna().sort_values(ascending=False, kind="stable")
    first = labels.loc[ranked.index[: int(np.ceil(share * len(ranked)))]]
    found = suggestions(audit, run, first).set_index("example_id")["suggested_label"].reindex(first.index)
    table = pd.DataFrame({"label": first.astype(object), "suggested_label": found.astype(object)})
    return table.dropna().rename_axis("example_id").reset_index()
