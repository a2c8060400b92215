"""Model output that is hidden from the visitor: of which examples, for which reason, and tables without these examples.

    hidden = test examples where the policy reads test blind, from everybody and always
           ∪ blind rows (``scoring.queue.random_controls.blind_rows``: controls and as many suspects) until their first
           verdict ∪ examples that wait for a second reader, from everybody but the first reader

The audit determines the blind rows, so every page hides the same ones: cells have no model output, and facts and images
of the model are refused. Rankings, maps and lists would reveal it by their order, so they leave hidden examples out and
say so. Blind rows apply if audit.toml sets a goal, or if the reviewer chose controls. Two selections by metadata may
differ by one example; numbers over such a selection therefore exclude hidden examples.

Inputs → outputs: example_ids, tables → reasons, tables. Cost: one pass over the decided examples per new event; nothing
where nothing is hidden. Limits: numbers over a whole split or class are shown; of a blind test no selection is shown;
a person who can read the audit's folder sees everything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.auth.serving import serving
from dashboard.blinding import second_reader
from dashboard.queries import database, decisions
from dashboard.queries.selection import Selection, source
from scoring.audit import Audit, Run
from scoring.queue.blinding import FIRST, SECOND, TEST, left_out
from scoring.queue.random_controls import blind_rows, drawn_of
from scoring.queue.second_reader_policy import drawn

MODEL_FIELDS = ("prediction", "suggestion", "suggestion_source")
SUBSET_REFUSED = (
    "The test split is reviewed blind. Numbers are shown for all of it or for a whole class, not for a part chosen by "
    "metadata."
)
TOO_FEW = (
    "The test split is reviewed blind. Too few of its examples are selected here: a number could reveal single "
    "predictions."
)
FEWEST_TEST_EXAMPLES = 10
"""A blind test shows no accuracy over fewer test examples than this."""

_readers_with_controls: set[tuple[str, str | None]] = set()
"""The token of what is served, and who chose controls there."""


# -- which -----------------------------------------------------------------------------------------------------------


def remember_controls(reviewer: str | None, wanted: bool) -> None:
    """Remembers for the life of this process that a reviewer chose controls, if the audit sets no goal."""
    key = (serving().token, reviewer)
    (_readers_with_controls.add if wanted else _readers_with_controls.discard)(key)


def visitor_blind_rows(audit: Audit) -> frozenset[str]:
    """Returns the audit's blind rows for this visitor; none if the visitor did not choose controls."""
    key = (serving().token, serving().identity.reviewer)
    if not audit.config.get("goal") and key not in _readers_with_controls:
        return frozenset()
    return _audit_blind_rows(audit.root, _stamps(audit))


def _stamps(audit: Audit) -> tuple[Any, ...]:
    run = _run(audit)
    scores = [run.score_path(name) for name in run.score_names()] if run else []
    return tuple(
        database.stamp(path) for path in (audit.config_path, audit.examples_path, audit.controls_path, *scores)
    )


def _run(audit: Audit) -> Run | None:
    """Returns the run whose order draws the blind suspects: always the audit's first."""
    return audit.run(None) if audit.run_names() else None


@lru_cache(maxsize=4)
def _audit_blind_rows(root: Path, _stamps: tuple[Any, ...]) -> frozenset[str]:
    audit = database.audit_at(root)
    return blind_rows(audit, _run(audit))


def draw_probabilities(audit: Audit) -> dict[str, float]:
    """Returns the controls with the probability of their draw. Never sent to a browser, because it reveals the
    controls."""
    return _draw_probabilities(
        audit.root, tuple(database.stamp(path) for path in (audit.config_path, audit.controls_path))
    )


@lru_cache(maxsize=4)
def _draw_probabilities(root: Path, stamps: tuple[Any, ...]) -> dict[str, float]:
    return {} if stamps[1] is None else drawn_of(database.audit_at(root))


def hidden_reasons(audit: Audit, ids: Collection[str], *, reviewer: str | None = None) -> dict[str, str]:
    """Returns the hidden ones among a few examples, each with the reason. reviewer: the visitor unless given."""
    who = serving().identity.reviewer if reviewer is None else reviewer
    test = second_reader.test_examples(audit) if second_reader.policy(audit).is_blind else {}
    found = {one: TEST for one in ids if one in test}
    waiting = second_reader.hidden_from(audit, who, among=ids)
    found |= {one: SECOND for one in ids if one in waiting and one not in found}
    own = visitor_blind_rows(audit)
    fresh = [one for one in ids if one in own and one not in found]
    if fresh:
        decided = decisions.state_at(audit)["decided"]
        found |= {one: FIRST for one in fresh if one not in decided}
    return found


def all_hidden(audit: Audit) -> Mapping[str, str]:
    """Returns every example hidden from the visitor, each with the reason."""
    who, own = serving().identity.reviewer, visitor_blind_rows(audit)
    return _all_hidden(
        audit.root,
        serving().log_url,
        decisions.last_position(audit),
        who,
        own,
        database.stamp(audit.config_path),
        database.stamp(audit.examples_path),
    )


@lru_cache(maxsize=16)
def _all_hidden(
    _root: Path, _url: str, _position: int, who: str | None, own: frozenset[str], *_stamps: object
) -> dict[str, str]:
    audit = database.open_audit()
    found = dict.fromkeys(own - decisions.state_at(audit)["decided"], FIRST) if own else {}
    found |= dict.fromkeys(second_reader.hidden_from(audit, who), SECOND)
    return found | (
        dict.fromkeys(second_reader.test_examples(audit), TEST) if second_reader.policy(audit).is_blind else {}
    )


def refusal(audit: Audit, ids: Collection[str]) -> str | None:
    """Returns why model output of these examples is refused, or None if none of them is hidden."""
    return next(iter(hidden_reasons(audit, ids).values()), None)


# -- tables, lists and maps without them -----------------------------------------------------------------------------


def drop_hidden(audit: Audit, table: pa.Table) -> tuple[pa.Table, str | None]:
    """Returns the rows of a table with example_id that are not hidden, and a sentence about the others."""
    hidden = all_hidden(audit)
    if not hidden or not table.num_rows:
        return table, None
    named = pa.array(list(hidden), pa.string())
    inside = pc.is_in(table["example_id"].cast(pa.string()), value_set=named)
    if not pc.any(inside).as_py():
        return table, None
    gone = table.filter(inside)["example_id"].to_pylist()
    return table.filter(pc.invert(inside)), left_out(hidden[one] for one in gone)


def drop_hidden_rows(audit: Audit, frame: pd.DataFrame, ids: Sequence[str]) -> tuple[pd.DataFrame, str | None]:
    """Returns the same as ``drop_hidden`` for a data frame whose rows are about ``ids``."""
    hidden = all_hidden(audit)
    shown = np.array([one not in hidden for one in ids], dtype=bool)
    return (frame, None) if shown.all() else (frame[shown], left_out(hidden[one] for one in ids if one in hidden))


# -- numbers ---------------------------------------------------------------------------------------------------------


def subset_refusal(audit: Audit, selection: Selection) -> str | None:
    """Returns why numbers of this selection are refused, or None. Of a blind test only whole classes are shown,
    because the difference of two selections may be one example."""
    chosen = bool(selection.meta) and selection.split in (None, "test")
    return SUBSET_REFUSED if chosen and second_reader.policy(audit).is_blind else None


def exclude_hidden(audit: Audit, selection: Selection, *, parted: bool = False) -> tuple[Selection, str | None]:
    """Returns the selection without its hidden examples, and a sentence about those. Numbers over a selection by
    metadata use it; any other selection is returned unchanged. parted: groups of the selection are shown."""
    hidden = all_hidden(audit) if selection.meta or parted else {}
    if not hidden:
        return selection, None
    condition, parameters = Selection(selection.split, meta=selection.meta).sql()
    query = (
        f"SELECT example_id FROM {source(audit.examples_path)} e "
        f"WHERE {condition} AND example_id IN (SELECT unnest(?::VARCHAR[]))"
    )
    inside = database.sql(query, [*parameters, list(hidden)])["example_id"].to_pylist()
    if not inside:
        return selection, None
    return replace(selection, left_out=frozenset(inside)), left_out(hidden[one] for one in inside)


def drop_revealing_accuracy(audit: Audit, known: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """Returns accuracies per group (with columns ``split`` and n) without those that could reveal single test
    predictions."""
    if not second_reader.policy(audit).is_blind or "split" not in known or not len(known):
        return known
    few = (known["split"] == "test") & ((known["n"] < FEWEST_TEST_EXAMPLES) | bool(selection.meta))
    return known[~few]


# -- cells -----------------------------------------------------------------------------------------------------------


def blind_cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a grid cell without model output; its evidence says that it was blind."""
    evidence = {name: value for name, value in cell["evidence"].items() if name in ("run", "url")} | {"blind": True}
    return {
        **cell,
        **dict.fromkeys(MODEL_FIELDS),
        "wrong": False,
        "score": "",
        "score_help": "",
        "blind": True,
        "evidence": evidence,
    }


def blind_cells(audit: Audit, cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the cells; hidden ones have no model output."""
    hidden = hidden_reasons(audit, [cell["id"] for cell in cells])
    return [blind_cell(cell) if cell["id"] in hidden else cell for cell in cells]


def scored_cell(cell: Mapping[str, Any], score: str, score_help: str, evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a cell with the page's score and more evidence; a blind cell is returned unchanged."""
    if cell.get("blind"):
        return dict(cell)
    return {**cell, "score": score, "score_help": score_help, "evidence": {**cell["evidence"], **evidence}}


# -- the queue of a blind test ---------------------------------------------------------------------------------------


def blind_test_order(audit: Audit, run: Run, ids: Sequence[str], split: str | None) -> list[int] | None:
    """Returns the places of the queue of a blind test split: all suspects and as many other examples, in random order;
    None where every row stays as it is.

    Suspects are the examples that the model predicts as another class. As many other examples are drawn by hash, and
    the controls are added, so that a reader cannot tell which is which. The queue is drawn over the whole split;
    filters select from it.
    """
    if not second_reader.is_blind_split(audit, split) or not len(ids) or not run.predictions_path.is_file():
        return None
    stamps = (database.stamp(run.predictions_path), database.stamp(audit.examples_path))
    chosen = _blind_test_ids(stamps, audit.seed) | set(draw_probabilities(audit))
    places = [at for at, one in enumerate(ids) if one in chosen]
    return sorted(places, key=lambda at: drawn(audit.seed, "blind order", ids[at]))


@lru_cache(maxsize=4)
def _blind_test_ids(stamps: tuple[Any, ...], seed: int) -> frozenset[str]:
    predictions, examples = (source(stamp[0]) for stamp in stamps)
    found = database.sql(
        f"SELECT e.example_id, p.correct FROM {examples} e JOIN {predictions} p ON p.example_id = e.example_id WHERE "
        "e.split = 'test'"
    )
    pairs = list(zip(found["example_id"].to_pylist(), found["correct"].to_pylist(), strict=True))
    suspects = [one for one, correct in pairs if not correct]
    agreed = sorted((one for one, correct in pairs if correct), key=lambda one: drawn(seed, "agreed", one))
    return frozenset([*suspects, *agreed[: max(len(suspects), 10)]])
