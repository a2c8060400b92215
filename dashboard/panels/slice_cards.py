"""Cards of slices: accuracy, classes, central members and strongest opponents of each; a click opens the slice.

The browser renders the cards from plain data (``grid/cards.js``), because thirty cards made of widgets take Streamlit a
second. Texts are made here, so that numbers have the same format as on every page.

Input: slices of a ``Slicing`` → output: the id of a clicked slice, once, else None. Cost: about 5 kB a card.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard.blinding import model_output
from dashboard.grid.scripts import scripts_version
from dashboard.presenters import cells
from dashboard.presenters.influences import signed
from dashboard.style.colours import ROLES, css_variables
from dashboard.style.formatting import count, number, percent, percent_interval
from scoring.audit import Audit, Run
from scoring.evaluation import wilson

STRIP = 6
MOST_CLASSES = 4
MOST_META = 3
READING = (
    "Each card is a slice, least accurate first. For each class, the upper bar (●) counts given labels "
    "and the lower bar (▲) counts predictions. A class with labels but without predictions is missed in "
    "this slice. The lowest accuracy among many slices is partly chance, so compare the intervals."
)
DISTANCE_HELP = (
    "Mean squared distance between the influence embeddings of two members. A lower value means that the training set "
    "influences them more similarly. For comparison: the same number for random sets of this size. Wrongly predicted "
    "examples have long embeddings, so slices of errors often have a higher value than random sets."
)

ENTRY = """
const ready = import(new URL("/hardlook/grid/%s/cards.js", window.location.origin).href);
export default async function (component) { return (await ready).default(component); }
"""


def show_cards(
    audit: Audit,
    run: Run,
    slices: Sequence[Mapping[str, Any]],
    members: Mapping[int, int] | None,
    *,
    key: str,
    corrected: Mapping[int, str] | None = None,
) -> int | None:
    """Shows slices as cards. ``members``: how many of each slice pass the metadata filters; None without filters.
    ``corrected``: the accuracy on corrected labels in words, of the slices that have such labels."""
    there = {example for one in slices for example in _pictured(one)}
    shown = _thumbs(audit, run, there - model_output.hidden_reasons(audit, there).keys())
    data = {
        "cards": [_card(one, shown, members, (corrected or {}).get(one["slice_id"])) for one in slices],
        "marks": {name: asdict(role) for name, role in ROLES.items()},
    }
    result = _component()(key=key, data=data, on_open_change=_ignore)
    opened = result.get("open")
    return None if opened is None else int(opened)


def _pictured(one: Mapping[str, Any]) -> list[str]:
    """Returns the examples shown on a card."""
    return [*one["nearest"][:STRIP], *(found["example_id"] for found in one["opponents"][:STRIP])]


def _thumbs(audit: Audit, run: Run, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Returns the data of each thumbnail, by example_id."""
    table = pa.table({"example_id": pa.array(sorted(ids), pa.string())})
    wanted = ("id", "fingerprint", "label", "prediction", "wrong", "problem", "text", "rows")
    made = cells.make_cells(audit, run, table, None, suggest=False)
    return {cell["id"]: {name: cell[name] for name in wanted if name in cell} for cell in made}


def _card(
    one: Mapping[str, Any],
    shown: Mapping[str, dict[str, Any]],
    members: Mapping[int, int] | None,
    corrected: str | None,
) -> dict[str, Any]:
    facts = [count(one["size"], "example"), *([corrected] if corrected else [])]
    if members is not None:
        facts.append(f"{members.get(one['slice_id'], 0):,} match the filters")
    return {
        "id": one["slice_id"],
        "title": title(one),
        "accuracy": accuracy_text(one),
        "interval": interval_text(one),
        "facts": " · ".join(facts),
        "spread": distance_text(one),
        "spread_help": DISTANCE_HELP,
        **histogram(one["labels"], one["predictions"]),
        "metadata": [meta_text(row) for row in one["overrepresented"][:MOST_META]],
        "nearest": [shown[example] for example in one["nearest"][:STRIP] if example in shown],
        "opponents": [
            shown[found["example_id"]] | {"influence": signed(found["influence"])}
            for found in one["opponents"][:STRIP]
            if found["example_id"] in shown
        ],
    }


def title(one: Mapping[str, Any]) -> str:
    """Returns the name of a slice."""
    return f"Slice {one['slice_id']}"


def accuracy_text(one: Mapping[str, Any]) -> str:
    """Returns its accuracy in words."""
    return "no labels" if one["accuracy"] is None else f"{percent(one['accuracy'])} predicted right"


def interval_text(one: Mapping[str, Any]) -> str:
    """Returns the 95 % Wilson interval of its accuracy."""
    if one["accuracy"] is None:
        return ""
    return f"95 % interval {percent_interval(*wilson(round(one['accuracy'] * one['size']), one['size']))}"


def distance_text(one: Mapping[str, Any]) -> str:
    """Returns the mean squared embedding distance of its members beside that of random sets."""
    if one["coherence"] is None:
        return "embedding distance²: needs two examples"
    beside = "" if one["random_coherence"] is None else f" (random sets: {number(one['random_coherence'])})"
    return f"mean embedding distance² {number(one['coherence'])}{beside}"


def meta_text(row: Mapping[str, Any]) -> str:
    """Returns a metadata value that is significantly more frequent in the slice."""
    return f"{row['column']} = {row['value']}: {percent(row['share'])}, {number(row['lift'])} × the share in all"


def histogram(labels: Mapping[str, int], predictions: Mapping[str, int], most: int = MOST_CLASSES) -> dict[str, Any]:
    """Returns the most frequent classes of a slice, by label or prediction: rows [class, labels, predictions], and the
    rest.

    >>> histogram({"a": 3, "b": 1}, {"b": 4}, 1)
    {'rows': [['b', 1, 4]], 'longest': 4, 'rest': 'and 1 more class'}
    """
    frequent = {name: max(labels.get(name, 0), predictions.get(name, 0)) for name in (*labels, *predictions)}
    names = sorted(frequent, key=lambda name: (-frequent[name], name))
    rows = [[name, labels.get(name, 0), predictions.get(name, 0)] for name in names[:most]]
    rest = len(names) - len(rows)
    longest = max((max(labels.get(name, 0), predictions.get(name, 0)) for name in names[:most]), default=1)
    return {
        "rows": rows,
        "longest": longest,
        "rest": f"and {count(rest, 'more class', 'more classes')}" if rest else "",
    }


def _ignore() -> None:
    """Does nothing. Streamlit creates a component value only if a callback is named for it."""


@cache
def _component() -> Any:
    files = resources.files("dashboard.grid")
    styles = [files.joinpath(name).read_text(encoding="utf8") for name in ("grid.css", "contents.css", "cards.css")]
    css = "\n".join([f".hl-root{{{css_variables()}}}", *styles])
    return st.components.v2.component("hardlook_slices", js=ENTRY % scripts_version(), css=css, isolate_styles=False)
