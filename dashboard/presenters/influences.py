"""The training examples with the most influence on some examples: strongest opponents and proponents.

Influence of a training example z' on a set S is Σ_{z ∈ S} μ(z')·μ(z) (Wang et al. 2023, section 3), from the stored
influence embeddings. Positive helps: z' is a proponent. Negative harms: z' is an opponent. ``influence_json`` answers
the browser for one example or a selection; ``influence_cells`` makes the cells of a page. Members of S and hidden
examples (``dashboard.blinding.model_output``) are not listed.

Cost: one pass over the embeddings on the disk, 10 ms at 60,000 × 100. Limit: first order, in the stored
directions of the Hessian, with the labels as they were when the run was scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.blinding import model_output
from dashboard.presenters import cells
from dashboard.queries import database
from dashboard.queries.selection import source
from dashboard.style.formatting import command_line, number
from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import VectorFile
from scoring.slices import summed_influence

MOST = 12
"""Number of opponents and of proponents shown for a selection in a grid."""
BLOCK = 65_536
OPPONENT = "Negative, an opponent: training on this example with its given label raises the loss there."
PROPONENT = "Positive, a proponent: training on this example with its given label lowers the loss there."
SIGN = (
    "Influence has a sign. Positive: a **proponent**; training on it with its given label lowers the loss here. "
    "Negative: an **opponent**; training on it raises the loss here. Check the labels of opponents."
)


@dataclass(frozen=True)
class Vectors:
    """The embeddings of a run as they lie on the disk: ids (n,), file of (n, r) float32, train (n,) bool."""

    ids: pa.Array
    file: VectorFile
    train: np.ndarray


@dataclass(frozen=True)
class Influences:
    """(example_id, influence) of the opponents and proponents of a set, strongest first; ``used`` examples of it
    have an embedding."""

    opponents: list[tuple[str, float]]
    proponents: list[tuple[str, float]]
    used: int


def missing_embeddings(audit: Audit, run: Run | None) -> tuple[str, str] | None:
    """Returns a sentence and the command to run if a run has no influence embeddings, else None."""
    if run is not None and run.influence_path.is_file():
        return None
    more = ["--run", run.name] if run else []
    typed = command_line("score", audit, *more, "--only", "influence,self_influence")
    return "This run has no influence embeddings yet. This command computes them:", typed


def vectors(audit: Audit, run: Run) -> Vectors:
    """Returns the run's embeddings, which stay on the disk. Raises ``HardlookError`` where there are none."""
    lacks = missing_embeddings(audit, run)
    if lacks:
        raise HardlookError(" ".join(lacks))
    return _vectors(database.stamp(run.influence_path), database.stamp(audit.examples_path))


@lru_cache(maxsize=2)
def _vectors(embeddings: database.Stamp, examples: database.Stamp) -> Vectors:
    file = VectorFile(embeddings[0])
    query = f"SELECT example_id FROM {source(examples[0])} WHERE split = 'train' AND label IS NOT NULL"
    train = pc.is_in(file.ids, value_set=database.sql(query)["example_id"].combine_chunks())
    return Vectors(file.ids, file, train.to_numpy(zero_copy_only=False))


def strongest_influences(audit: Audit, run: Run, ids: Sequence[str], k: int = MOST) -> Influences:
    """Returns the k strongest opponents and proponents of some examples among the other training examples."""
    known = vectors(audit, run)
    at = pc.index_in(pa.array(list(dict.fromkeys(ids)), pa.string()), value_set=known.ids)
    at = at.drop_null().to_numpy()
    members = known.file.take(np.sort(at))
    sound = np.isfinite(members).all(axis=1)
    if not sound.any():
        return Influences([], [], 0)
    influence = _influence(members[sound], known.file)
    influence[~known.train] = np.nan
    influence[at] = np.nan
    if hidden := model_output.all_hidden(audit):
        influence[pc.is_in(known.ids, value_set=pa.array(list(hidden), pa.string())).to_numpy(zero_copy_only=False)] = (
            np.nan
        )
    return Influences(_strongest(known, influence, -1, k), _strongest(known, influence, 1, k), int(sound.sum()))


def _influence(members: np.ndarray, file: VectorFile) -> np.ndarray:
    """Returns the summed influence of every row, block by block, so that the file is never in memory as a whole."""
    starts = range(0, len(file), BLOCK)
    return np.concatenate([summed_influence(members, file.rows(start, start + BLOCK)) for start in starts])


def _strongest(known: Vectors, influence: np.ndarray, sign: int, k: int) -> list[tuple[str, float]]:
    """Returns the k largest of one sign, ties in the file's order."""
    rows = np.flatnonzero(sign * influence > 0)
    rows = rows[np.argsort(-sign * influence[rows], kind="stable")[:k]]
    return [(known.ids[int(row)].as_py(), float(influence[row])) for row in rows]


# -- as cells --------------------------------------------------------------------------------------------------------


def signed(value: float) -> str:
    """Returns an influence with its sign and three digits.

    >>> signed(-570.69), signed(0.01234)
    ('−571', '+0.0123')
    """
    text = number(abs(value))
    return ("−" if value < 0 else "+") + text


def influence_cells(
    audit: Audit,
    run: Run,
    found: Sequence[tuple[str, float]],
    role: str,
    *,
    url: str | None = None,
    **evidence: Any,
) -> list[dict[str, Any]]:
    """Returns cells of opponents or proponents with their influence; ``role`` and ``evidence`` go into each
    decision."""
    table = pa.table({"example_id": pa.array([example for example, _ in found], pa.string())})
    made = cells.make_cells(audit, run, table, None, url=url)
    return [
        _influence_cell(cell, value, {"role": role, "rank": rank, "influence": value, **evidence})
        for rank, (cell, (_, value)) in enumerate(zip(made, found, strict=True), start=1)
    ]


def _influence_cell(cell: dict[str, Any], value: float, evidence: dict[str, Any]) -> dict[str, Any]:
    if cell.get("blind"):
        return cell
    help_text = f"Influence {signed(value)}. {OPPONENT if value < 0 else PROPONENT}"
    own = {"score": signed(value), "score_help": help_text, "influence": signed(value)}
    return cells.with_suggestion(cell | own | {"evidence": cell["evidence"] | evidence})


def influence_json(audit: Audit, run: Run | None, ids: Sequence[str], k: int = MOST) -> dict[str, Any]:
    """Returns the influential examples for the browser: {opponents, proponents: cells, used, note: what is missing}."""
    lacks = missing_embeddings(audit, run)
    if run is None or lacks:
        note, command = lacks or ("This audit has no run yet. Add a [run.<name>] table to audit.toml.", None)
        return {"opponents": [], "proponents": [], "used": 0, "note": note, "command": command}
    if reason := model_output.refusal(audit, ids):
        return {"opponents": [], "proponents": [], "used": 0, "note": reason, "command": None}
    found = strongest_influences(audit, run, ids, k)
    about: dict[str, Any] = {"influence_on": list(ids)[:20], "influence_on_n": found.used}
    made = {
        f"{role}s": influence_cells(audit, run, pairs, role, **about)
        for role, pairs in (("opponent", found.opponents), ("proponent", found.proponents))
    }
    return {**made, "used": found.used, "note": _note(ids, found.used), "command": None}


def _note(ids: Sequence[str], used: int) -> str | None:
    """Returns a sentence about the examples without an embedding, or None."""
    if used == len(set(ids)):
        return None
    reason = "without a label, unreadable, or added after the run was scored"
    if len(set(ids)) == 1:
        return f"This example has no influence embedding: it is {reason}."
    return f"{len(set(ids)) - used:,} of {len(set(ids)):,} have no influence embedding: {reason}."
