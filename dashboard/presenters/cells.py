"""The cells of the example grid, made from rows of the audit's tables, with the evidence for each decision.

A cell holds label, prediction, score and suggested label. It holds no decision, because every browser reads decisions
from the log. *Evidence* is what the reviewer had on screen: run, score, value, rank and length of the ranking,
prediction, suggested label with its source, and the page's address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
import streamlit as st

from dashboard.auth.serving import serving
from dashboard.blinding import model_output
from dashboard.presenters import example_content
from dashboard.queries import database
from dashboard.queries.score_columns import ScoreColumn, describe_ends
from dashboard.style.formatting import number
from scoring.audit import Audit, Run

SHORT_UNIT = 5


def page_url() -> str | None:
    """Returns the address of the page with its state; None outside a browser."""
    url = st.context.url
    if not url:
        return None
    query = "&".join(
        f"{_encoded(key)}={_encoded(value)}" for key in st.query_params for value in st.query_params.get_all(key)
    )
    return f"{url}?{query}" if query else url


def _encoded(text: str) -> str:
    return quote(text, safe="")


def score_help(column: ScoreColumn) -> str:
    """Returns what a score means and which end is suspicious, as the tooltip of each cell."""
    unit = f" Unit: {column.unit}." if column.unit else ""
    return f"{column.title}: {column.help}{unit} {describe_ends(column)[1]}".strip()


def score_text(value: float | None, column: ScoreColumn) -> str:
    """Returns the score on a cell's badge; a long unit appears only in the tooltip and on the page."""
    return number(value, column.unit if column.unit and len(column.unit) <= SHORT_UNIT else None)


def make_cells(
    audit: Audit,
    run: Run | None,
    rows: pa.Table,
    column: ScoreColumn | None,
    *,
    ranks: Sequence[int] = (),
    of: int = 0,
    suggest: bool = True,
    url: str | None = None,
) -> list[dict[str, Any]]:
    """Returns cells of the rows of a ranking (example_id, score), in their order.

    ranks: the position of each row in the ranking, from 1; of: the length of the ranking.
    """
    ids = rows["example_id"].to_pylist()
    scores = rows["score"].to_pylist() if "score" in rows.column_names else [None] * len(ids)
    frame = database.details(audit, run, ids)
    suggested = database.suggestions(audit, run, frame["label"]) if suggest and run else pd.DataFrame(index=ids)
    shared = {"run": run.name if run else None, "url": url, "draw_probability": 1.0}
    if column is not None:
        shared |= {"score": column.address, "of": of}
    known = _plain(frame)
    places: Sequence[int | None] = ranks or [None] * len(ids)
    made = [
        _cell(example_id, row, suggestion, value, column, rank, shared)
        for example_id, row, suggestion, value, rank in zip(ids, known, _plain(suggested), scores, places, strict=True)
    ]
    made = model_output.blind_cells(audit, made)
    shown = example_content.cell_contents(audit, ids, [row.get("label") for row in known])
    return [cell if cell["problem"] else cell | own for cell, own in zip(made, shown, strict=True)]


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns rows as plain Python values with nulls as None, for JSON. All at once, because one row takes 3 ms."""
    if not len(frame.columns):
        return [{} for _ in range(len(frame))]
    return [{key: None if pd.isna(value) else value for key, value in row.items()} for row in frame.to_dict("records")]


def _cell(
    example_id: str,
    row: Mapping[str, Any],
    suggested: Mapping[str, Any],
    value: Any,
    column: ScoreColumn | None,
    rank: int | None,
    shared: Mapping[str, Any],
) -> dict[str, Any]:
    label, prediction = row.get("label"), row.get("prediction")
    suggestion, source = suggested.get("suggested_label"), suggested.get("source")
    facts = {
        "value": value,
        "rank": rank,
        "prediction": prediction,
        "p_prediction": row.get("p_prediction"),
        "suggestion": suggestion,
        "suggestion_source": source,
    }
    return {
        "id": example_id,
        "fingerprint": row.get("fingerprint"),
        "label": label,
        "prediction": prediction,
        "wrong": label is not None and prediction is not None and label != prediction,
        "score": "" if column is None else score_text(value, column),
        "score_help": "" if column is None else score_help(column),
        "suggestion": suggestion,
        "suggestion_source": source,
        "problem": row.get("problem"),
        "evidence": {**shared, **{key: fact for key, fact in facts.items() if fact is not None}},
    }


def with_suggestion(cell: dict[str, Any]) -> dict[str, Any]:
    """Returns the cell with the suggested label beside its score, and with its key if the visitor may decide."""
    if cell["suggestion"] is None:
        return cell  # also where it is hidden
    only_looks = serving().identity.read_only is not None
    source = f" Source of the suggested label{'' if only_looks else ' (key W)'}: {cell['suggestion_source']}."
    return cell | {
        "score": f"{cell['score']} · {'' if only_looks else 'W '}→ {cell['suggestion']}",
        "score_help": cell["score_help"] + source,
    }
