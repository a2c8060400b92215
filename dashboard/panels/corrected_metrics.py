"""Accuracy on original and on corrected labels, beside each other, with the warning about an open test."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard.blinding import second_reader
from dashboard.presenters import corrected_metrics
from dashboard.style.formatting import percent
from dashboard.widgets import inputs
from scoring.audit import Audit, Run
from scoring.corrections.corrected_metrics import changed
from scoring.queue.second_reader_policy import WARNING


def show_on_both_labels(audit: Audit, run: Run | None) -> None:
    """Shows accuracy on given and on corrected labels; nothing before the first correction, when both are the same."""
    found = corrected_metrics.groups(audit, run, ["split"])
    if not len(found):
        return
    st.subheader("Accuracy on corrected labels", anchor=False)
    st.caption(
        "Accuracy of the last checkpoint on the given labels and on the corrected labels. On corrected "
        "labels, relabelled examples count with their new label and excluded examples do not count."
    )
    found = _in_words(found)
    percent_column = st.column_config.TextColumn(alignment="right")
    words = {"n": "examples", "n_corrected": "not excluded", "relabelled": "relabelled", "excluded": "excluded"}
    numbers = {name: st.column_config.NumberColumn(word, format="localized") for name, word in words.items()}
    shown: dict[str, Any] = {
        "hide_index": True,
        "placeholder": inputs.NONE,
        "column_config": {"original": percent_column, "corrected": percent_column, **numbers},
        "width": 800,
    }
    st.dataframe(found, **shown)
    classes = corrected_metrics.groups(audit, run, ["split", "label"])
    classes = classes[changed(classes) > 0]
    if len(classes):
        with st.expander("Per class"):
            st.dataframe(_in_words(classes).sort_values(["split", "relabelled"], ascending=[True, False]), **shown)
            st.caption("Classes by the original label. Classes without a changed label are not listed.")
    if changed(found[found["split"] == "test"]).any():
        warn_about_test(audit)


def _in_words(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with accuracies formatted as on every page."""
    return table.assign(**{name: table[name].map(percent) for name in ("original", "corrected")})


def warn_about_test(audit: Audit) -> None:
    """Warns about the bias of reviewing only the model's errors, if test is not blind."""
    if not second_reader.policy(audit).is_blind:
        inputs.warn(WARNING)
