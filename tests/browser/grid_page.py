"""The page of the grid's own tests: two panels of six examples in three columns, in the order of the table."""

import streamlit as st

from dashboard.grid import example_grid
from dashboard.queries import database

EACH = 6

st.set_page_config(layout="wide")
audit = database.open_audit()
run = audit.run()
memory = st.session_state
memory.setdefault("page", int(st.query_params.get("page", 0)))
memory["runs"] = memory.get("runs", 0) + 1
if st.button("next"):
    memory["page"] += 1
st.button("rerun")
st.text_input("field")
if st.toggle("framed"):
    st.container(border=True).text("Something stands above the grid now.")
each = int(st.query_params.get("each", EACH))
ids = database.sql(f"SELECT example_id FROM '{audit.examples_path}' ORDER BY row").column(0).to_pylist()
text = lambda value: value if isinstance(value, str) else None


def cells(start: int) -> list[dict]:
    rows = database.details(audit, run, ids[start : start + each])
    return [
        {
            "id": i,
            "fingerprint": row["fingerprint"],
            "label": text(row["label"]),
            "prediction": text(row["prediction"]),
            "wrong": row["label"] != row["prediction"],
            "score": "loss 0.5 nats",
            "score_help": "high is suspicious",
            "suggestion": text(row["second"]),
            "suggestion_source": "the last checkpoint",
            "problem": text(row["problem"]),
            "evidence": {"rank": start + k},
        }
        for k, (i, row) in enumerate(rows.iterrows())
    ]


first = memory["page"] * 2 * each
panels = [
    {"title": "Lowest", "note": "hard here", "cells": cells(first)},
    {"title": "Highest", "cells": cells(first + each)},
]
grid = example_grid(
    panels,
    key="grid",
    columns=3,
    classes=audit.classes,
    issues=audit.issues,
    run=run.name,
    guidelines="# Guidelines\n<b>Look</b> twice.",
    turns=True,
    notify="notify" in st.query_params,
)
if grid.turn:
    memory["page"] = max(0, memory["page"] + grid.turn)
    st.rerun()
st.text(f"runs: {memory['runs']}")
st.text(f"page: {memory['page']}")
