"""Grouping by a metadata column: the groups of examples it makes, each with a filter that selects it.

A group is the examples with one value, or between two quartiles if the column holds many numbers. Whatever a page shows
for a filter, it can show for each group. The column is chosen in the sidebar (``?grouped=``), as filters are.

Input → output: a column → ``Group``s, the most frequent first (ranges in their order), up to a limit; examples → the
name of their group. Cost: one query over the example table, cached. Limit: for a column of free text only the most
frequent values are groups, and the page says how many are not shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import pandas as pd
import pyarrow as pa
import streamlit as st

from dashboard.blinding import model_output
from dashboard.presenters import corrected_metrics
from dashboard.queries import database
from dashboard.queries.score_columns import ScoreColumn
from dashboard.queries.selection import META, MetaFilter, Selection, identifier, source
from dashboard.style.formatting import plain
from dashboard.widgets import inputs
from scoring.audit import Audit, Run

KEY = "grouped"
MOST = 20
PARTS = 4
NOTHING = inputs.NOTHING


@dataclass(frozen=True)
class Group:
    """Some examples by their metadata: name, filter, and number."""

    name: str
    meta: MetaFilter
    n: int


@dataclass(frozen=True)
class Grouping:
    """A metadata column (without ``META``) and its groups; ``left_out``: number of values without a group."""

    column: str
    groups: tuple[Group, ...]
    left_out: int = 0

    @property
    def names(self) -> list[str]:
        """The groups' names in order."""
        return [group.name for group in self.groups]

    @property
    def omitted_note(self) -> str:
        """A sentence about values without a group; "" if there are none."""
        if not self.left_out:
            return ""
        return (
            f"Shown are the {len(self.groups)} most frequent values of {plain(self.column)}. {self.left_out:,} "
            "more values are not shown."
        )


def pick_column(audit: Audit) -> str | None:
    """Returns the column chosen for grouping, without ``META``; None for none."""
    columns = [name.removeprefix(META) for name in database.meta_columns(audit)]
    if not columns:
        return None
    help_text = "Every page then shows its examples or numbers separately for each value of this column."
    return inputs.choose("Group by", columns, KEY, placeholder="Any metadata column", help=help_text)


def groups_of_column(audit: Audit, column: str | None, most: int = MOST) -> Grouping | None:
    """Returns the groups of a column, up to ``most``; None for no column."""
    if column is None or META + column not in database.meta_columns(audit):
        return None
    return _groups_of_column(database.stamp(audit.examples_path), column, most)


@lru_cache(maxsize=16)
def _groups_of_column(examples: database.Stamp, column: str, most: int) -> Grouping:
    name, where = identifier(META + column), source(examples[0])
    sizes = database.sql(
        f"SELECT CAST({name} AS VARCHAR) v, count(*) n FROM {where} GROUP BY v ORDER BY n DESC, v"
    ).to_pydict()
    kind = database.meta_kind(examples, META + column)
    if kind == "range":
        return Grouping(
            column, tuple(_ranges(where, column, dict(zip(sizes["v"], sizes["n"], strict=True)).get(None, 0)))
        )
    found = [
        Group(_named(value), MetaFilter(META + column, values=(value,)), n)
        for value, n in zip(sizes["v"][:most], sizes["n"][:most], strict=True)
    ]
    return Grouping(column, tuple(found), max(0, len(sizes["v"]) - most))


def _named(value: str | None) -> str:
    """Returns a value as the name of its group; one that reads as "nothing" is quoted, so that names stay different."""
    return NOTHING if value is None else f"“{value}”" if value == NOTHING else value


def _ranges(where: str, column: str, missing: int) -> list[Group]:
    """Returns a quarter of the examples each, by the quartiles of a number, and the examples without one."""
    name = identifier(META + column)
    known = f"FROM {where} WHERE {name} IS NOT NULL AND NOT isnan({name}::DOUBLE)"
    shares = [part / PARTS for part in range(PARTS + 1)]
    edges = database.sql(f"SELECT quantile_disc({name}::DOUBLE, {shares}) q {known}")["q"][0].as_py()
    edges = list(dict.fromkeys(edges))
    short = [f"{edge:g}" for edge in edges]
    texts = short if len(set(short)) == len(edges) else [repr(edge) for edge in edges]
    found = []
    for at, (low, high) in enumerate(pairwise(edges)):
        last = high == edges[-1]
        meta = MetaFilter(META + column, low=low, high=high if last else None, below=None if last else high)
        conditions, parameters = meta.sql("e")
        n = database.sql(f"SELECT count(*) n FROM {where} e WHERE {' AND '.join(conditions)}", parameters)["n"][
            0
        ].as_py()
        found.append(Group(f"{texts[at]} to {'' if last else 'below '}{texts[at + 1]}", meta, n))
    if missing:
        found.append(Group(NOTHING, MetaFilter(META + column, values=(None,)), missing))
    return found


def within(selection: Selection, group: Group) -> Selection:
    """Returns the same selection restricted to one group."""
    return replace(selection, meta=(*selection.meta, group.meta))


def group_by_example(audit: Audit, grouped: Grouping) -> pd.Series:
    """Returns the name of the group by example_id; examples of no group are left out."""
    return _group_by_example(database.stamp(audit.examples_path), grouped)


@lru_cache(maxsize=4)
def _group_by_example(examples: database.Stamp, grouped: Grouping) -> pd.Series:
    cases, parameters = [], []
    for place, group in enumerate(grouped.groups):
        conditions, more = group.meta.sql("e")
        cases.append(f"WHEN {' AND '.join(conditions)} THEN {place}")
        parameters += more
    found = database.sql(
        f"SELECT example_id, CASE {' '.join(cases)} END g FROM {source(examples[0])} e", parameters
    ).to_pandas()
    names = dict(enumerate(grouped.names))
    return found.set_index("example_id")["g"].map(names).dropna() if cases else pd.Series(dtype=object)


def accuracy(audit: Audit, run: Run, selection: Selection, grouped: Grouping) -> pd.DataFrame:
    """Returns ``database.accuracy`` of each group and split, also on corrected labels: label (the group's name),
    split, n, right, accuracy, corrected, changed. Hidden examples are excluded."""
    frames = []
    for group in grouped.groups:
        own, _ = model_output.exclude_hidden(audit, within(selection, group))
        known = corrected_metrics.add_corrected(
            audit, run, database.accuracy(audit, run, own, ["split"]), own, ["split"]
        )
        frames.append(known.assign(label=group.name))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def counts(audit: Audit, selection: Selection, grouped: Grouping) -> pd.DataFrame:
    """Returns ``database.counts`` of each group and split: label (the group's name), split, n, labelled, problems."""
    frames = [
        database.counts(audit, within(selection, group), ["split"]).assign(label=group.name) for group in grouped.groups
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def decile_errors(audit: Audit, run: Run, column: ScoreColumn, selection: Selection, grouped: Grouping) -> pd.DataFrame:
    """Returns error per decile within each non-empty group: class (the group's name), decile, n, error, low, high,
    and the error on corrected labels where some were changed. Hidden examples are excluded."""
    frames = []
    for group in grouped.groups:
        own, _ = model_output.exclude_hidden(audit, within(selection, group))
        known = database.decile_errors(audit, run, column, own)
        if known["n"].sum():
            frames.append(
                corrected_metrics.add_corrected_deciles(audit, run, column, own, known).assign(**{"class": group.name})
            )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def progress(audit: Audit, selection: Selection, grouped: Grouping, states: dict[str, frozenset[str]]) -> pd.DataFrame:
    """Returns the progress of the review per group: group, examples, and how many of them are in each of ``states``."""
    names = group_by_example(audit, grouped)
    if selection.meta:
        names = names[names.index.isin(database.matching(audit, selection.meta))]
    table = pd.DataFrame({"examples": names.value_counts()}).reindex(grouped.names, fill_value=0)
    for word, ids in states.items():
        table[word] = names[names.index.isin(ids)].value_counts().reindex(grouped.names, fill_value=0)
    return table[table["examples"] > 0].rename_axis("group").reset_index()


def split_ranking(audit: Audit, grouped: Grouping, table: pa.Table) -> dict[str, pa.Table]:
    """Returns the ranking of each group that has examples in it."""
    names = group_by_example(audit, grouped).reindex(table["example_id"].to_pylist())
    found = {name: table.filter(pa.array((names == name).to_numpy(dtype=bool))) for name in grouped.names}
    return {name: part for name, part in found.items() if part.num_rows}


def explain(grouped: Grouping) -> None:
    """Shows how many values have no group."""
    if grouped.omitted_note:
        st.caption(grouped.omitted_note)
