"""What a reviewer must not see yet: others' answers before a second opinion, the model's before a blind test reading.

    hidden answers   =  of examples that one person has read and that need a second reader, from everybody else
    hidden model     =  predictions, scores, suggestions and maps of test examples where the policy reads test blind

Routes, cells and tables ask here, so that what is hidden never reaches a browser. Cost: one pass over the decided examples
per new event. Limits: a chart of a whole split shows no single example and stays; who may read the audit's folder sees all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from dashboard import decisions, state
from dashboard.selection import source
from dashboard.serving import serving
from scoring.audit import Audit, Run
from scoring.review_policy import ReviewPolicy, drawn

TOLD_BY_THE_MODEL = ("prediction", "suggestion", "suggestion_source")
HIDDEN = "hidden until two people have read it"


def policy(audit: Audit) -> ReviewPolicy:
    """The audit's rules of reading."""
    return _policy(state.stamp(audit.root / "audit.toml"))


@lru_cache(maxsize=4)
def _policy(_config: Any) -> ReviewPolicy:
    return ReviewPolicy.of(state.open_audit())


def is_blind_split(audit: Audit, split: str | None) -> bool:
    """Whether the model is hidden on examples of this split."""
    return split == "test" and policy(audit).is_blind


# -- others' answers -------------------------------------------------------------------------------------------------


def waiting(audit: Audit) -> dict[str, str]:
    """Examples that need a second reader → who has read them."""
    return _waiting(serving().log_url, decisions.last_position(audit), state.stamp(audit.root / "audit.toml"),
                    state.stamp(audit.examples_path))  # fmt: skip


@lru_cache(maxsize=4)
def _waiting(_url: str, _position: int, _config: Any, _examples: Any) -> dict[str, str]:
    audit = state.open_audit()
    log, rules = decisions.open_log(audit), policy(audit)
    consensus = log.consensus()
    settled = consensus.loc[consensus["status"] == "adjudicated", "example_id"]
    return rules.waiting(log.decisions(), settled, _test_split(audit) if rules.is_blind else None)


def _test_split(audit: Audit) -> dict[str, str]:
    return _test_ids(state.stamp(audit.examples_path))


@lru_cache(maxsize=2)
def _test_ids(examples: Any) -> dict[str, str]:
    query = f"SELECT example_id FROM {source(Path(examples[0]))} WHERE split = 'test'"
    return dict.fromkeys(state.sql(query)["example_id"].to_pylist(), "test")


def hidden_from(audit: Audit, reviewer: str | None) -> dict[str, str]:
    """Examples whose only answer this person must not see → whose answer it is."""
    return {example: reader for example, reader in waiting(audit).items() if reader != reviewer}


def without_hidden(audit: Audit, answer: dict[str, Any], reviewer: str | None) -> dict[str, Any]:
    """How examples stand (``dashboard.standings``), as this person may see it. Asked once a second by every browser, so
    it looks at the examples of the answer alone."""
    if not answer.get("examples"):
        return answer
    rules = policy(audit)
    test = _test_split(audit) if rules.is_blind else {}
    examples = {}
    for example, one in answer["examples"].items():
        said = one["decisions"]
        if len(said) == 1 and said[0]["reviewer"] != reviewer and not one["settled"]:
            if rules.wants_second(example, said[0]["verdict"], said[0]["issues"], test.get(example)):
                said = []
        examples[example] = {"decisions": said, "flags": one["flags"], "notes": one["notes"]}
    return {**answer, "examples": examples}


def visible(audit: Audit, events: pd.DataFrame, reviewer: str | None) -> pd.DataFrame:
    """Events with what they say about an example blanked where this person must not see it yet: who and when stay."""
    hidden = hidden_from(audit, reviewer)
    if not hidden or not len(events):
        return events
    rows = (events["action"] == "decide") & (events["example_id"].map(hidden) == events["reviewer"]).fillna(False)
    if not rows.any():
        return events
    shown = events.copy()
    shown.loc[rows, ["verdict", "new_label"]] = None
    shown.loc[rows, "note"] = HIDDEN
    for name in ("labels", "issues"):
        shown[name] = pd.Series([() if row else one for row, one in zip(rows, shown[name], strict=True)],
                                dtype=object, index=shown.index)  # fmt: skip
    return shown


# -- the model's -----------------------------------------------------------------------------------------------------


def blind_cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    """A grid's cell without anything that a model said; its evidence says that it was blind."""
    evidence = {name: value for name, value in cell["evidence"].items()
                if name in ("run", "url", "draw_probability")} | {"blind": True}  # fmt: skip
    return {**cell, **dict.fromkeys(TOLD_BY_THE_MODEL), "wrong": False, "score": "", "score_help": "", "blind": True,
            "evidence": evidence}  # fmt: skip


def blind_cells(audit: Audit, cells: Sequence[dict[str, Any]], splits: Sequence[str | None]) -> list[dict[str, Any]]:
    """Cells, those of a blind split without the model."""
    if not policy(audit).is_blind:
        return list(cells)
    return [blind_cell(cell) if split == "test" else cell for cell, split in zip(cells, splits, strict=True)]


def blind_queue(audit: Audit, run: Run, table: pa.Table, split: str | None) -> pa.Table:
    """A queue of a blind test split: suspects as ever, as many that the model agrees with by lot, in an order by lot.

    The suspects are those of which the model says another class; of the others as many are drawn by hash as there are
    suspects, so that who reads cannot tell which is which. Rows of other splits stay as they are.
    """
    if not is_blind_split(audit, split) or not table.num_rows or not run.predictions_path.is_file():
        return table
    seed = audit.seed
    agreed = set(state.sql(f"SELECT example_id FROM {source(run.predictions_path)} WHERE correct")["example_id"].to_pylist())
    ids = table["example_id"].to_pylist()
    suspects = [one for one in ids if one not in agreed]
    by_lot = sorted((one for one in ids if one in agreed), key=lambda one: drawn(seed, "agreed", one))
    chosen = {*suspects, *by_lot[: max(len(suspects), 10)]}
    order = sorted(range(len(ids)), key=lambda at: drawn(seed, "blind order", ids[at]))
    kept = [at for at in order if ids[at] in chosen]
    return table.take(pa.array(kept, pa.int64()))


def for_me(audit: Audit, table: pa.Table) -> pa.Table:
    """A queue's rows that are left for whoever looks (``scoring.assignments.for_reviewer``), in the order to read them."""
    from datetime import UTC, datetime

    from scoring.assignments import for_reviewer

    who = serving().identity
    if who.reviewer is None or not table.num_rows:
        return table
    ids = table["example_id"].to_pylist()
    queue = pd.DataFrame({"example_id": ids, "row": range(len(ids))})
    rules = policy(audit)
    if rules.is_blind:
        test = _test_split(audit)
        queue["split"] = [test.get(one, "other") for one in ids]
    found = for_reviewer(queue, decisions.open_log(audit), who.reviewer, datetime.now(UTC), policy=rules)
    return table.take(pa.array(found["row"].to_numpy(), pa.int64()))
