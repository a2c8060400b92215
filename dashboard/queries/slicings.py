"""Slicings as pages read them: saved ones, ones found with other settings, and the map of influence embeddings.

``read_saved`` and ``find_unsaved`` return the same: members (example_id, slice_id, distance to the centre) and the
summary of ``scoring.slices.slicing_run``. Slices are found in this process, because embeddings are on the disk and
torch is not needed; the last few results are cached. ``map_points`` joins the map's coordinates to the values that
colour the points. It returns at most ``MOST_POINTS`` points, since a lasso over many more overruns the connection.

Cost: reading a saved slicing takes milliseconds; finding one at 60,000 × 100 seconds; the map 50 ms.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dashboard.queries import database
from dashboard.queries.score_columns import ScoreColumn
from dashboard.queries.selection import Selection, identifier, source
from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.slices import slicing_run
from scoring.slices.slicing_run import SliceSettings

MOST_POINTS = slicing_run.MAP_MOST
IN_NO_SLICE = -1
"""The slice id of examples that are in no slice."""


@dataclass(frozen=True)
class Slicing:
    """Members, summary, and whether the embeddings are newer than the saved slicing."""

    members: pd.DataFrame
    summary: dict[str, Any]
    stale: bool = False

    @property
    def settings(self) -> SliceSettings:
        """The settings with which it was found."""
        return SliceSettings(**self.summary["settings"])

    @property
    def slices(self) -> list[dict[str, Any]]:
        """One record per slice, the least accurate first."""
        return self.summary["slices"]

    def find(self, slice_id: str | None) -> dict[str, Any] | None:
        """Returns the slice in an address, or None."""
        return next((one for one in self.slices if str(one["slice_id"]) == slice_id), None)

    def ids(self, slice_id: int) -> pd.DataFrame:
        """Returns the members of a slice, those nearest to its centre first."""
        own = self.members[self.members["slice_id"] == slice_id]
        return own.sort_values(["distance", "example_id"], ignore_index=True)


def read_saved(run: Run, name: str) -> Slicing:
    """Returns a saved slicing. Raises ``HardlookError`` if it cannot be read."""
    stamps = database.stamp(run.slices_path(name)), database.stamp(run.slices_summary_path(name))
    embeddings = database.stamp(run.influence_path)
    found = _read_saved(run.root, run.name, name, stamps)
    return Slicing(*found, stale=bool(embeddings and stamps[0] and embeddings[1] > stamps[0][1]))


@lru_cache(maxsize=4)
def _read_saved(root: Path, run: str, name: str, _stamps: tuple[Any, ...]) -> tuple[pd.DataFrame, dict[str, Any]]:
    members, summary = slicing_run.read_slicing(Run(run, root), name)
    if not summary:
        raise HardlookError(f"the slicing {name!r} has no summary file; save it again, or run `hardlook slice` again")
    return members, summary


def find_unsaved(audit: Audit, run: Run, settings: SliceSettings) -> Slicing:
    """Returns slices found with other settings; nothing is written."""
    files = (run.influence_path, run.predictions_path, audit.examples_path)
    return Slicing(*_find_unsaved(audit.root, run.name, settings, tuple(database.stamp(path) for path in files)))


@lru_cache(maxsize=6)
def _find_unsaved(
    root: Path, run: str, settings: SliceSettings, _stamps: tuple[Any, ...]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    audit = database.audit_at(root)
    everything = slicing_run.embedded(audit, audit.run(run))
    found = slicing_run.find(everything, settings)
    return found, slicing_run.summarise(everything, found, settings)


def save(audit: Audit, run: Run, settings: SliceSettings, name: str) -> None:
    """Saves the slicing of these settings under a new name."""
    name = slicing_run.checked_name(name.strip())
    if name in run.slicing_names():
        raise HardlookError(f"a slicing named {name!r} exists already; choose another name")
    with run.lock(wait=2):
        slicing_run.slice_run(audit, run, settings, name)


# -- the map ---------------------------------------------------------------------------------------------------------


def map_points(audit: Audit, run: Run, selection: Selection, column: ScoreColumn | None) -> pd.DataFrame:
    """Returns the selected examples on the map: example_id, x, y, split, label, prediction, correct, score (null for
    none)."""
    files = [run.map_path, audit.examples_path, run.predictions_path]
    files += [run.score_path(column.scorer)] if column else []
    return _map_points(tuple(database.stamp(path) for path in files), selection, column.name if column else None)


@lru_cache(maxsize=6)
def _map_points(files: tuple[Any, ...], selection: Selection, column: str | None) -> pd.DataFrame:
    condition, parameters = selection.sql()
    joined = (
        f"{source(files[0][0])} m JOIN {source(files[1][0])} e ON e.example_id = m.example_id "
        f"LEFT JOIN {source(files[2][0])} p ON p.example_id = m.example_id"
    )
    score = "NULL::FLOAT"
    if column is not None:
        joined += f" LEFT JOIN {source(files[3][0])} s ON s.example_id = m.example_id"
        score = f"s.{identifier(column)}"
    return database.sql(
        f"SELECT m.example_id, m.x, m.y, e.split, e.label, p.prediction, p.correct, {score} AS score FROM {joined} "
        f"WHERE {condition} ORDER BY m.example_id",
        parameters,
    ).to_pandas()


def subsample(points: pd.DataFrame, strata: str, most: int = MOST_POINTS, always: Collection[str] = ()) -> pd.DataFrame:
    """Returns at most ``most`` points: those of ``always`` first, the rest in equal shares of each stratum, drawn by a
    hash of their id.

    >>> points = pd.DataFrame({"example_id": list("abcdef"), "slice_id": [0, 0, 0, 0, 1, 1]})
    >>> subsample(points, "slice_id", 3)["slice_id"].tolist()
    [0, 0, 1]
    >>> subsample(points, "slice_id", 1, ["c"])["example_id"].tolist()
    ['c']
    """
    if len(points) <= most:
        return points
    draw = pd.Series(pd.util.hash_array(points["example_id"].to_numpy(dtype=object)), index=points.index)
    groups = draw.groupby(points[strata].astype(object).where(points[strata].notna(), ""))
    place = (groups.rank(method="first") - 0.5) / groups.transform("size")
    place = place.where(~points["example_id"].isin(always), -1.0)
    return points.iloc[np.sort(np.lexsort((draw, place))[:most])]


def by_group(found: Slicing, slices: list[dict[str, Any]], groups: pd.Series, names: list[str]) -> pd.DataFrame:
    """Returns how many members of each of some slices are in each group → slice, accuracy, members, and a column per
    group that any of them is in. ``groups``: the group's name by example_id."""
    members = found.members.assign(group=found.members["example_id"].map(groups)).dropna(subset=["group"])
    if members.empty or not slices:
        return pd.DataFrame()
    table = pd.crosstab(members["slice_id"], members["group"])
    table = table.reindex([one["slice_id"] for one in slices], fill_value=0)
    table = table[[name for name in names if name in table.columns]]
    facts = pd.DataFrame(
        {
            "slice": [one["slice_id"] for one in slices],
            "accuracy": [one["accuracy"] for one in slices],
            "members": [one["size"] for one in slices],
        },
        index=table.index,
    )
    table.columns = [f"{name} (group)" if name in facts.columns else name for name in table.columns]
    return facts.join(table).reset_index(drop=True)
