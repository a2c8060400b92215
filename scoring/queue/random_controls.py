"""Random controls: examples drawn at random, to estimate the errors among unreviewed examples.

Suspects show how good the ranking is; only a random draw shows what the ranking misses. The *controls* of a split are
the prefix of one seeded permutation of its labelled examples, fixed when the audit starts and kept in the audit's
folder. The permutation is stratified by the suspicion of that moment, in proportion:

    key of the j-th (from 0) of N_s examples of stratum s, in random order  =  (j + u_s) / N_s,   u_s ~ U(0, 1)
    controls = the m examples of lowest key;   inclusion probability of an example of s  =  m_s / N_s

so that every prefix holds each stratum's share to within one example, and within a stratum is a simple random draw
without replacement. ``mixed_queue`` lays them among the suspects, unmarked and at random places: controls, and an
equal share of suspects chosen by hash(seed, example_id), are *blind*: scores and suggestion stay hidden until the
reviewer's first verdict. The page records ``probability`` and ``blind`` of the row in the event's evidence;
``scoring.queue.estimates`` counts no control that was decided with the model's opinion on screen.

Inputs → outputs: an audit and a run → ``controls.parquet`` (``SCHEMA``); a ranking and controls → a queue. Cost: one
sort of the split. Limits: examples that join the dataset later make a stratum of their own; controls are drawn one by
one, also where the queue keeps the members of a group together.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import stats

from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table, write_table
from scoring.queue.order import default_order, suspicion

SCHEMA = pa.schema(
    [
        ("example_id", pa.string()),
        ("split", pa.string()),
        ("stratum", pa.int32()),
        ("place", pa.int64()),
        ("key", pa.float64()),
        ("size", pa.int64()),
    ]
)
EDGES = (0.02, 0.05, 0.10, 0.25, 0.50, 1.0)
"""Upper ends of the strata, as shares of the split from the most suspicious down."""
SMALLEST = 20
"""Examples; a smaller stratum joins the next one."""
ERROR_RATE, CONFIDENCE, BUDGET = 0.05, 0.95, 0.10
"""The goal where audit.toml names none, and the share of a split that suspects are expected to take."""
LEAST, MOST = 0.05, 0.50
"""Between these lies the controls' share of the queue, whatever the goal."""

STRETCH = 40
"""Examples of the queue within which as many suspects as controls are blind."""


# -- how many ---------------------------------------------------------------------------------------


def controls_needed(
    error_rate: float, confidence: float = CONFIDENCE, *, errors: int = 0, population: int | None = None
) -> int:
    """Returns how many controls show that fewer than ``error_rate`` of the labels are wrong, if ``errors`` of them are.

    The smallest n with P(at most ``errors`` in n | rate = error_rate) ≤ 1 − confidence, looked at once: binomial, or
    hypergeometric where ``population`` examples are all there are.

    >>> controls_needed(0.05), controls_needed(0.01), controls_needed(0.01, population=500)
    (59, 299, 225)
    """
    if not 0 < error_rate < 1 or not 0 < confidence < 1:
        raise HardlookError(f"goal {error_rate} at confidence {confidence}; needed shares between 0 and 1")
    if population is None:
        return _first(lambda n: stats.binom.cdf(errors, n, error_rate) <= 1 - confidence, errors)
    wrong = int(np.ceil(error_rate * population - 1e-9))
    if wrong <= errors:
        return population
    return _first(lambda n: stats.hypergeom.cdf(errors, population, wrong, n) <= 1 - confidence, errors, population)


def _first(enough: Callable[[int], bool], low: int, most: int | None = None) -> int:
    """The smallest n above ``low`` that is enough, ``most`` where none below it is; more is never less."""
    high = low + 1
    while not enough(high):
        low, high = high, high * 2
        if most is not None and high >= most:
            high = most
            break
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def chance_of_seeing(error_rate: float, controls: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Returns what so many controls can say → (probability that they hold no error at that rate, bound if they hold
    none).

    >>> [round(x, 3) for x in chance_of_seeing(0.016, 30)]
    [0.616, 0.095]
    """
    return (1 - error_rate) ** controls, 1 - (1 - confidence) ** (1 / controls) if controls else 1.0


@dataclass(frozen=True)
class Plan:
    """How many controls a split's goal needs, and which share of the queue they get.

    error_rate, confidence: the goal. needed: controls without an error that reach it, looked at once. controls: how
    many the audit draws, twice as many, since looking at any time and each error found cost some. suspects: expected
    decisions by rank. share: of the queue.
    """

    error_rate: float
    confidence: float
    needed: int
    controls: int
    suspects: int
    share: float

    @property
    def sentence(self) -> str:
        """The plan in words."""
        return (
            f"To show at {100 * self.confidence:.3g} % that fewer than {100 * self.error_rate:.3g} % of the labels "
            f"are wrong takes {self.needed:,} controls without an error; {self.controls:,} are drawn and make up "
            f"{100 * self.share:.3g} % of the queue."
        )


def plan(goal: dict[str, Any], population: int) -> Plan:
    """The plan for ``[goal]`` of audit.toml (error_rate, confidence, decisions, controls; all optional).

    population: labelled examples of the split. decisions: the budget; controls: drawn instead of the default.
    """
    rate, confidence = goal.get("error_rate", ERROR_RATE), goal.get("confidence", CONFIDENCE)
    needed = controls_needed(rate, confidence, population=population) if population else 0
    drawn = min(goal.get("controls", 2 * needed), population)
    budget = goal.get("decisions")
    suspects = max(int(np.ceil(BUDGET * population)) if budget is None else budget - drawn, 0)
    share = drawn / max(drawn + suspects, 1)
    return Plan(rate, confidence, needed, drawn, suspects, float(np.clip(share, LEAST, MOST)))


# -- the permutation --------------------------------------------------------------------------------


def strata(ranked: np.ndarray) -> np.ndarray:
    """(n,) suspicion, higher = more suspicious, NaN = not scored → (n,) strata from 0, the most suspicious.

    >>> np.bincount(strata(np.arange(1000.0))).tolist()
    [20, 30, 50, 150, 250, 500]
    """
    n = len(ranked)
    order = np.argsort(-np.nan_to_num(np.asarray(ranked, dtype=float), nan=-np.inf), kind="stable")
    ends: list[int] = []
    for edge in EDGES:
        end = round(edge * n)
        if end - (ends[-1] if ends else 0) >= SMALLEST or edge == 1.0:
            ends.append(end)
    if len(ends) > 1 and ends[-1] - ends[-2] < SMALLEST:
        del ends[-2]
    result = np.empty(n, dtype=np.int32)
    result[order] = np.searchsorted(ends, np.arange(n), side="right")
    return result


def permute(strata: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) strata → (n,) place in its stratum's random order, (n,) key (see above), (n,) size of its stratum."""
    place, key, size = np.empty(len(strata), np.int64), np.empty(len(strata)), np.empty(len(strata), np.int64)
    for stratum in np.unique(strata):
        rows = generator.permutation(np.flatnonzero(strata == stratum))
        place[rows] = np.arange(len(rows))
        key[rows] = (np.arange(len(rows)) + generator.random()) / len(rows)
        size[rows] = len(rows)
    return place, key, size


def fix_controls(audit: Audit, run: Run | None) -> pd.DataFrame:
    """The permutation of every labelled split, drawn and written if it is not yet → columns of ``SCHEMA``.

    Once written it never changes; labelled examples that are new since then are added as a stratum of their own, and
    those that are gone are left out of the answer. In a folder that cannot be written it is drawn and not kept.
    """
    from filelock import FileLock

    keeps = os.access(audit.root, os.W_OK)
    with FileLock(str(audit.controls_path) + ".lock") if keeps else contextlib.nullcontext():
        known = _read(audit)
        examples = read_table(audit.examples_path, ["example_id", "split", "label", "problem"]).to_pandas()
        examples = examples[examples["label"].notna() & examples["problem"].isna()]
        fresh = examples[~examples["example_id"].isin(known["example_id"])]
        if len(fresh):
            parts = [known] + [_drawn(audit, run, split, known, part) for split, part in fresh.groupby("split")]
            known = pd.concat([part for part in parts if len(part)], ignore_index=True)
            if keeps:
                write_table(
                    audit.controls_path,
                    pa.Table.from_pandas(known, schema=SCHEMA, preserve_index=False),
                    {"hardlook": {"kind": "controls", "seed": audit.seed}},
                )
    return known[known["example_id"].isin(examples["example_id"])].sort_values(["split", "key"], ignore_index=True)


def _read(audit: Audit) -> pd.DataFrame:
    table = read_table(audit.controls_path) if audit.controls_path.is_file() else SCHEMA.empty_table()
    return table.to_pandas()


def _drawn(audit: Audit, run: Run | None, split: str, known: pd.DataFrame, part: pd.DataFrame) -> pd.DataFrame:
    """The permutation of one split's new examples; sorted by id first, so that the draw follows the seed alone."""
    part = part.sort_values("example_id")
    before = known.loc[known["split"] == split, "stratum"]
    order = default_order(audit, run, split) if run is not None else None
    scored = pd.Series(dtype=float) if run is None or order is None else suspicion(run, order)
    ranked = scored.reindex(part["example_id"]).to_numpy(dtype=float)
    groups = strata(ranked) if before.empty else np.full(len(part), before.max() + 1, dtype=np.int32)
    digest = hashlib.sha256(f"{audit.seed} controls {split} {len(before)}".encode()).digest()
    place, key, size = permute(groups, np.random.default_rng(int.from_bytes(digest[:8], "big")))
    return pd.DataFrame(
        {
            "example_id": part["example_id"].to_numpy(),
            "split": split,
            "stratum": groups,
            "place": place,
            "key": key,
            "size": size,
        }
    )


def drawn_controls(controls: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """The controls of one split: the first ``plan.controls`` by key, with their inclusion ``probability``."""
    first = controls.sort_values("key").head(plan.controls).reset_index(drop=True)
    drawn = first.groupby("stratum")["example_id"].transform("size")
    return first.assign(probability=(drawn / first["size"]).astype(float))


# -- the queue --------------------------------------------------------------------------------------


def mixed_queue(
    ranked: pd.Series, controls: pd.DataFrame, *, share: float = 0.2, done: Collection[str] = (), seed: int = 0
) -> pd.DataFrame:
    """Suspects in their order with controls among them → columns example_id, kind, probability, blind.

    ranked: suspicion by example_id, higher first, NaN = not scored and no suspect. controls: ``drawn_controls`` (in
    their order: example_id, probability); those that ``ranked`` does not name are left out, so a filter of the page
    holds for both. share: of the queue, until controls or suspects run out. done: decided already, left out at the
    end, so that the others keep their order. kind: "suspect" or "control", never for the reviewer's eyes; an example
    that is both comes once, where it comes first, as a control. probability: with which the queue drew it, 1 for a
    suspect.

    >>> ranked = pd.Series({"a": 3.0, "b": 2.0, "c": 1.0})
    >>> mixed_queue(ranked, pd.DataFrame({"example_id": ["c"], "probability": [0.3]}), share=0.5)["kind"].tolist()
    ['control', 'suspect', 'suspect']
    """
    if not 0 <= share < 1:
        raise HardlookError(f"the controls' share of the queue is {share}; needed a share from 0 to below 1")
    suspects = ranked.dropna().sort_values(ascending=False, kind="stable").index.to_numpy(dtype=object)
    kept = controls[controls["example_id"].isin(ranked.index)] if share else controls.iloc[:0]
    chances = hashes(kept["example_id"], seed, "place")
    places = np.concatenate(
        [(np.arange(len(kept)) + chances) / max(share, 1e-9), (np.arange(len(suspects)) + 0.5) / (1 - share)]
    )
    ids = np.concatenate([kept["example_id"].to_numpy(dtype=object), suspects])
    queue = pd.DataFrame({"example_id": ids[np.argsort(places, kind="stable")]}).drop_duplicates(ignore_index=True)
    probability = queue["example_id"].map(kept.set_index("example_id")["probability"]).astype(float)
    control = probability.notna()
    queue = queue.assign(
        kind=np.where(control, "control", "suspect"),
        probability=probability.fillna(1.0),
        blind=_blind(queue["example_id"], control.to_numpy(), seed),
    )
    return queue[~queue["example_id"].isin(list(done))].reset_index(drop=True)


def _blind(ids: pd.Series, control: np.ndarray, seed: int) -> np.ndarray:
    """(n,) bool: the controls, and in every stretch of the queue as many suspects, those of lowest hash."""
    stretch = pd.Series(np.arange(len(ids)) // STRETCH)
    chance = pd.Series(np.where(control, np.inf, hashes(ids, seed, "blind")))
    rank = chance.groupby(stretch).rank(method="first")
    return control | ((rank <= pd.Series(control).groupby(stretch).transform("sum")) & np.isfinite(chance)).to_numpy()


def audit_queue(
    audit: Audit, run: Run | None, ranked: pd.Series, split: str | None, *, done: Collection[str] = ()
) -> pd.DataFrame:
    """``mixed_queue`` of an audit's split by its goal; fixes the controls if nobody has yet. What a page calls."""
    own = fix_controls(audit, run)
    own = own[own["split"] == split]
    planned = plan(audit.goal, len(own))
    return mixed_queue(
        ranked, drawn_controls(own, planned), share=planned.share if len(own) else 0.0, done=done, seed=audit.seed
    )


def blind_rows(audit: Audit, run: Run | None) -> frozenset[str]:
    """The blind examples of all splits: controls, and the suspects that are blind in the queue of each split's default
    order. Drawn over whole splits from one run, so that they are the same whatever order or filter a page shows."""
    examples = read_table(audit.examples_path, ["example_id", "split", "label", "problem"]).to_pandas()
    examples = examples[examples["label"].notna() & examples["problem"].isna()]
    found: set[str] = set()
    for split, part in examples.groupby("split"):
        order = default_order(audit, run, split) if run is not None else None
        scored = pd.Series(dtype=float) if run is None or order is None else suspicion(run, order)
        queue = audit_queue(audit, run, scored.reindex(part["example_id"]).astype(float), split)
        found.update(queue.loc[queue["blind"], "example_id"])
    return frozenset(found)


def drawn_of(audit: Audit) -> dict[str, float]:
    """The drawn controls of all splits by their inclusion probability, as they were fixed; none before they were."""
    known = _read(audit)
    parts = [drawn_controls(part, plan(audit.goal, len(part))) for _, part in known.groupby("split")]
    return {row.example_id: row.probability for part in parts for row in part.itertuples()}


def hashes(ids: Collection[str], seed: int, what: str) -> np.ndarray:
    """(n,) numbers in [0, 1) that follow from (seed, what, example_id) alone."""
    digests = (
        hashlib.blake2b(f"{seed} {what} {name}".encode("utf8", "surrogatepass"), digest_size=7).digest() for name in ids
    )
    return np.array([int.from_bytes(digest, "big") / 2**56 for digest in digests], dtype=float)
