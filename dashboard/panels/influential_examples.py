"""A set of examples beside its opponents and proponents: three panels of one grid, with the same keys as every grid.

The middle panel lists the set. The outer panels list the training examples with the most influence on it, where they
can be relabelled at once. Used for an opened slice and for a selection on the map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard.blinding import model_output
from dashboard.grid import example_grid
from dashboard.presenters import cells, influences
from dashboard.style.formatting import count
from dashboard.widgets import inputs
from scoring.audit import Audit, Run

MEMBERS = 24
MOST = 24
COLUMNS = 4


def show_influential(
    audit: Audit,
    run: Run,
    ids: Sequence[str],
    what: str,
    *,
    key: str,
    scores: Mapping[str, tuple[str, str]] | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> None:
    """Shows opponents, the set itself, and proponents.

    what: the set's title; scores: the text of a member's badge and its help, by example_id; evidence: goes into each
    decision.
    """
    found = influences.strongest_influences(audit, run, ids, MOST)
    st.caption(influences.SIGN)
    page = inputs.pick_page(len(ids), MEMBERS, (run.name, what, len(ids)), grid=key)
    places = range((page - 1) * MEMBERS, min(page * MEMBERS, len(ids)))
    url, evidence = cells.page_url(), dict(evidence or {})
    panels = [
        _side(audit, run, found.opponents, "Opponents", "harm", found.used, url, evidence),
        _members(audit, run, [ids[place] for place in places], what, places, len(ids), scores or {}, url, evidence),
        _side(audit, run, found.proponents, "Proponents", "help", found.used, url, evidence),
    ]
    example_grid(
        panels,
        key=key,
        columns=COLUMNS,
        classes=audit.classes,
        issues=audit.issues,
        run=run.name,
        guidelines=inputs.guidelines(audit),
        turns=True,
    )
    if found.used < len(ids):
        st.caption(
            f"{count(len(ids) - found.used, 'example')} of the set have no influence embedding and are not "
            "counted here: they have no label, are unreadable, or were added after the run was scored."
        )


def _side(
    audit: Audit,
    run: Run,
    pairs: Sequence[tuple[str, float]],
    title: str,
    verb: str,
    used: int,
    url: str | None,
    evidence: dict[str, Any],
) -> dict[str, Any]:
    """Returns the panel of opponents or of proponents."""
    role = title.lower().removesuffix("s")
    made = influences.influence_cells(audit, run, pairs, role, url=url, **evidence)
    note = f"training examples that {verb} these {count(used, 'example')} most"
    return {"title": title, "note": note if made else f"no training example {verb}s here", "cells": made}


def _members(
    audit: Audit,
    run: Run,
    ids: Sequence[str],
    what: str,
    places: range,
    n: int,
    scores: Mapping[str, tuple[str, str]],
    url: str | None,
    evidence: dict[str, Any],
) -> dict[str, Any]:
    """Returns one page of the set."""
    made = cells.make_cells(audit, run, pa.table({"example_id": pa.array(ids, pa.string())}), None, url=url)
    for place, cell in zip(places, made, strict=True):
        text, help_text = scores.get(cell["id"], ("", ""))
        own = {"role": "member", "rank": place + 1, "of": n, **evidence}
        cell |= model_output.scored_cell(cell, text, help_text, own)
    note = f"{places.start + 1:,} to {places.stop:,} of {n:,}" if made else ""
    return {"title": what, "note": note, "cells": made}
