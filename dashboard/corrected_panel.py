"""Accuracy on original and on corrected labels, beside each other, with the warning about an open test."""

from __future__ import annotations

from functools import lru_cache

import pandas as pd
import streamlit as st

from dashboard import blinding, controls, decisions, state
from dashboard.selection import identifier, source
from dashboard.serving import serving
from scoring.audit import Audit, Run
from scoring.corrected_metrics import on_both_labels
from scoring.review_policy import WARNING


def show_on_both_labels(audit: Audit, run: Run | None) -> None:
    """Nothing before the first correction: the two would be the same."""
    if run is None or not run.predictions_path.is_file():
        return
    found = both_labels(audit, run)
    if not len(found) or not (found["relabelled"] + found["excluded"]).any():
        return
    st.subheader("On corrected labels", anchor=False)
    st.caption("Accuracy of the last checkpoint on the labels as given, and as the review corrected them: relabelled examples "
               "with their new label, excluded ones left out.")  # fmt: skip
    percent = st.column_config.NumberColumn(format="percent")
    st.dataframe(found, hide_index=True, column_config={"original": percent, "corrected": percent}, width=800)
    test = found[found["split"] == "test"]
    if (test["relabelled"] + test["excluded"]).any():
        warn_about_test(audit)


def both_labels(audit: Audit, run: Run) -> pd.DataFrame:
    """``scoring.corrected_metrics.on_both_labels`` per split, counted anew when the log or a file changed."""
    stamps = state.stamp(audit.examples_path), state.stamp(run.predictions_path), state.stamp(audit.root / "audit.toml")
    return _both(serving().log_url, decisions.last_position(audit), run.name, stamps)


@lru_cache(maxsize=8)
def _both(_url: str, _position: int, run_name: str, _stamps: tuple) -> pd.DataFrame:
    audit = state.open_audit()
    path = audit.run(run_name).predictions_path
    predictions = state.sql(f"SELECT example_id, {identifier('prediction')} FROM {source(path)}").to_pandas()
    return on_both_labels(state.labels(audit), predictions, decisions.open_log(audit), audit.policy)


def warn_about_test(audit: Audit) -> None:
    """What reviewing only the model's disagreements does to test, where test is open."""
    if not blinding.policy(audit).is_blind:
        controls.warn(WARNING)
