"""Drawing around points of a chart: the outlines stand in the address (``?lasso=``), so a link shows the
same examples.

A page asks ``pending`` for the outlines to draw into its figure, ``show_lasso_chart`` shows the figure and says what is
drawn around now, and ``clear_button`` wipes it away. Where nothing was drawn on the chart itself the
address counts; wiping a drawing away on the chart takes it out of the address too. Coordinates are the
chart's own. See ``dashboard.charts.lasso_geometry``.
"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from dashboard.charts import lasso_geometry
from dashboard.charts.common import Chart

PARAMETER = "lasso"
TOOLS = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["toImage", "autoScale2d", "zoomIn2d", "zoomOut2d"],
}


def linked() -> list[lasso_geometry.Outline]:
    """The outlines in the address."""
    return lasso_geometry.from_text(st.query_params.get(PARAMETER, ""))


def pending(name: str) -> list[lasso_geometry.Outline]:
    """The outlines of the address that the chart ``name`` does not show by itself: what was drawn on it
    stays drawn.
    """
    return [] if lasso_geometry.selected_outlines(_selection(st.session_state.get(_key(name)))) else linked()


def show_lasso_chart(chart: Chart, name: str, summary: str) -> list[lasso_geometry.Outline]:
    """Show a chart that can be drawn on, and how to read it → the outlines now."""
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
    """A button that wipes the outlines away."""
    if st.button("Clear", icon=":material/close:", type="tertiary"):
        st.session_state[f"_{name}_round"] = st.session_state.get(f"_{name}_round", 0) + 1
        st.session_state[f"_{name}_drawn"] = False
        if PARAMETER in st.query_params:
            del st.query_params[PARAMETER]
        st.rerun()


def _key(name: str) -> str:
    return f"{name} {st.session_state.get(f'_{name}_round', 0)}"


def _selection(event: Mapping | None) -> Mapping:
    return (event or {}).get("selection") or {}


def _remember(
    name: str, drawn: list[lasso_geometry.Outline], before: list[lasso_geometry.Outline]
) -> list[lasso_geometry.Outline]:
    """Keep what is drawn in the address, and take it out again when it is wiped away."""
    had = st.session_state.get(f"_{name}_drawn", False)
    st.session_state[f"_{name}_drawn"] = bool(drawn)
    if drawn:
        text = lasso_geometry.to_text(drawn)
        if st.query_params.get(PARAMETER) != text:
            st.query_params[PARAMETER] = text
        return drawn
    if had and before:
        del st.query_params[PARAMETER]
        return []
    return before
