"""Deviations of each column of a vector from its class, which show what makes a row unusual.

For the value v of column j of an example of class c, the robust z-score (Iglewicz and Hoaglin 1993)

    z_j = (v − median_c,j) / (1.4826 · MAD_c,j),   MAD = median |v − median|

over the *train* examples of class c. Where the MAD is 0 (most values equal) the standard deviation takes its place;
where that is 0 too, z is 0 for the usual value and ±99 for another one; it never goes beyond ±99. An example without a
label is compared with all of train, and so is one of a class with fewer than five.

Inputs → outputs: the kept vectors of an audit → ``columns.parquet`` (one row per class and column), written by ingest;
a vector and its class → z (d,). Cost: one pass over the vectors, at most 5,000 per class. Limits: columns are taken one
by one; rows of another length than most are not compared.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from scoring.audit import Audit
from scoring.audit.storage import read_metadata, read_table, write_table

MOST = 5000
"""Examples per class that the medians are taken of."""

LEAST = 5
LARGEST = 99.0
CONSISTENT = 1.4826
"""Makes the MAD of a normal distribution its standard deviation."""

ALL = ""
"""The group of all train examples; no class is named so."""


def robust_scale(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) → median and spread of each column, both (d,): 1.4826 · MAD, or the standard deviation where that is 0.

    >>> robust_scale(np.array([[1.0, 5.0], [2.0, 5.0], [9.0, 8.0]]))
    (array([2., 5.]), array([1.4826    , 1.41421356]))
    """
    values = np.asarray(values, dtype=np.float64)
    centre = np.median(values, axis=0)
    spread = CONSISTENT * np.median(np.abs(values - centre), axis=0)
    return centre, np.where(spread > 0, spread, values.std(axis=0))


def robust_z(values: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """(d,) values → (d,) robust z-scores within ±99.

    >>> robust_z(np.array([4.0, 1.0, 1.0]), np.array([2.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])).tolist()
    [2.0, 0.0, 99.0]
    """
    away = np.asarray(values, dtype=np.float64) - centre
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(spread > 0, away / spread, np.where(away == 0, 0.0, np.sign(away) * LARGEST))
    return np.clip(z, -LARGEST, LARGEST)


def name_and_unit(name: str, units: Mapping[str, str] | None = None) -> tuple[str, str | None]:
    """A column's name and its unit: as the data says, else from round or square brackets at the name's end.

    >>> name_and_unit("sepal length (cm)"), name_and_unit("v", {"v": "m/s"}), name_and_unit("f(x)")
    (('sepal length', 'cm'), ('v', 'm/s'), ('f(x)', None))
    """
    if units and name in units:
        return name, units[name]
    found = re.fullmatch(r"(.*\S)\s+[(\[]([^()\[\]]{1,12})[)\]]", name)
    return (found[1], found[2]) if found else (name, None)


@dataclass(frozen=True)
class Deviations:
    """What ``columns.parquet`` holds: column names (d,), their units, and each group's centre and spread (d,)."""

    columns: Sequence[str]
    units: Mapping[str, str]
    groups: Mapping[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def read(cls, audit: Audit) -> Deviations | None:
        """Of an audit; None where there are none (no vectors, or read before this was known)."""
        if not audit.columns_path.is_file():
            return None
        frame = read_table(audit.columns_path).to_pandas()
        parts = {
            name: (part["centre"].to_numpy(float), part["spread"].to_numpy(float))
            for name, part in frame.groupby("class", sort=False)
        }
        facts = read_metadata(audit.columns_path)
        return cls(facts.get("columns", []), facts.get("units", {}), parts)

    def of(self, values: np.ndarray, class_name: str | None) -> np.ndarray | None:
        """(d,) robust z-scores of one example within its class; None for another number of columns."""
        group = self.groups.get(class_name or ALL, self.groups.get(ALL))
        if group is None or len(values) != len(self.columns):
            return None
        return robust_z(values, *group)


def write_deviations(
    audit: Audit, table: pa.Table, columns: Sequence[str] | None, units: Mapping[str, str] | None = None
) -> None:
    """Write centre and spread of each column within each class of train; what ingest does for vectors.

    ``table``: the example table. ``columns``: the names that the data gives, else numbers.
    """
    frame = table.select(["example_id", "split", "label", "fingerprint", "problem"]).to_pandas()
    frame = frame[frame["problem"].isna() & frame["fingerprint"].notna()]
    train = frame[frame["split"] == "train"]
    train = train if len(train) else frame
    state = hashlib.sha256(
        train[["example_id", "label", "fingerprint"]].to_csv(index=False).encode("utf8", "surrogatepass")
    ).hexdigest()
    facts = {"columns": list(columns or []), "units": dict(units or {}), "of": state}
    if audit.columns_path.is_file() and _same(read_metadata(audit.columns_path), facts):
        return
    groups = dict(_groups(train))
    vectors = {name: _vectors(audit, ids) for name, ids in groups.items()}
    width = Counter(len(row) for rows in vectors.values() for row in rows).most_common(1)
    d = width[0][0] if width else 0
    facts["columns"] = facts["columns"] if len(facts["columns"]) == d else [str(j) for j in range(d)]
    write_table(audit.columns_path, _statistics(vectors, d), facts)


def _same(held: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Returns whether the file was made of the same examples; the data may name no columns, which then are numbers."""
    named = not facts["columns"] or held.get("columns") == facts["columns"]
    return named and held.get("of") == facts["of"] and held.get("units") == facts["units"]


def _groups(train: pd.DataFrame) -> Iterator[tuple[str, list[str]]]:
    """Ids of all, then of each class that is large enough; a fixed sample by content of those that are many."""
    by_content = train.sort_values("fingerprint")
    yield ALL, by_content["example_id"].head(MOST).tolist()
    for name, part in by_content.dropna(subset=["label"]).groupby("label", sort=True):
        if len(part) >= LEAST:
            yield name, part["example_id"].head(MOST).tolist()


def _vectors(audit: Audit, ids: Sequence[str]) -> list[np.ndarray]:
    kept = audit.originals
    found = (kept.get(example_id) for example_id in ids)
    return [np.frombuffer(data, dtype="<f4") for data in found if data is not None]


def _statistics(vectors: Mapping[str, list[np.ndarray]], d: int) -> pa.Table:
    names: list[str] = []
    numbers: list[int] = []
    sizes: list[int] = []
    centres: list[np.ndarray] = []
    spreads: list[np.ndarray] = []
    for name, rows in vectors.items():
        rows = [row for row in rows if len(row) == d]
        if not rows or not d:
            continue
        centre, spread = robust_scale(np.stack(rows))
        names += [name] * d
        numbers += range(d)
        sizes += [len(rows)] * d
        centres.append(centre)
        spreads.append(spread)
    joined = [np.concatenate(parts) if parts else np.empty(0) for parts in (centres, spreads)]
    return pa.table(
        {
            "class": pa.array(names, pa.string()),
            "column": pa.array(numbers, pa.int32()),
            "n": pa.array(sizes, pa.int32()),
            "centre": joined[0],
            "spread": joined[1],
        }
    )


def cut_key(example_id: str, x: str, y: str) -> str:
    """The name of the file of a cut: a hash, since ids and columns may hold anything.

    >>> cut_key("a", "x", "y") != cut_key("a", "y", "x")
    True
    """
    return hashlib.sha256(json.dumps([example_id, x, y]).encode()).hexdigest()[:24]
