"""Lasso selection on a chart. The outlines are in the address (``?lasso=``), so a link shows the same examples.

``pending`` returns the outlines that a page has to add to its figure. ``show_lasso_chart`` shows the figure and returns
the current outlines. ``clear_button`` clears them. If nothing is selected on the chart itself, the address counts.
Clearing the selection on the chart removes it from the address too. Coordinates are the chart's own. See
``dashboard.charts.lasso_geometry``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard.charts import lasso_geometry
from dashboard.charts.common import Chart

PARAMETER = "lasso"
TOOLS = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["toImage", "autoScale2d", "zoomIn2d", "zoomOut2d"],
}


def linked() -> list[lasso_geometry.Outline]:
    """Returns the outlines in the address."""
    return lasso_geometry.from_text(st.query_params.get(PARAMETER, ""))


def pending(name: str) -> list[lasso_geometry.Outline]:
    """Returns the outlines of the address that the chart ``name`` does not show by itself; outlines drawn on it
    stay."""
    return [] if lasso_geometry.selected_outlines(_selection(st.session_state.get(_key(name)))) else linked()


def show_lasso_chart(chart: Chart, name: str, summary: str) -> list[lasso_geometry.Outline]:
    """Shows a chart with a lasso and its text, and returns the current outlines."""
    before = linked()
    event = st.plotly_chart(
        chart.figure,
        key=_key(name),
        config=TOOLS,
        alt=chart.reading,
        on_select="rerun",
        selection_mode=("lasso", "box"),
    )
    st.caption(f"{summary} {chart.reading}")
    return _remember(name, lasso_geometry.selected_outlines(_selection(event)), before)


def clear_button(name: str) -> None:
    """Shows a button that clears the selection."""
    if st.button("Clear", icon=":material/close:", type="tertiary"):
        st.session_state[f"_{name}_round"] = st.session_state.get(f"_{name}_round", 0) + 1
        st.session_state[f"_{name}_drawn"] = False
        if PARAMETER in st.query_params:
            del st.query_params[PARAMETER]
        st.rerun()


def _key(name: str) -> str:
    return f"{name} {st.session_state.get(f'_{name}_round', 0)}"


def _selection(event: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return (event or {}).get("selection") or {}


def _remember(
    name: str, outlines: list[lasso_geometry.Outline], before: list[lasso_geometry.Outline]
) -> list[lasso_geometry.Outline]:
    """Writes the selection into the address, and removes it from there when it is cleared."""
    had = st.session_state.get(f"_{name}_drawn", False)
    st.session_state[f"_{name}_drawn"] = bool(outlines)
    if outlines:
        text = lasso_geometry.to_text(outlines)
        if st.query_params.get(PARAMETER) != text:
            st.query_params[PARAMETER] = text
        return outlines
    if had and before:
        del st.query_params[PARAMETER]
        return []
    return before
