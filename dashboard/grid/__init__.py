"""The example grid: images in panels, decided by mouse and keyboard without a rerun of the page.

Python sends the content of the cells. The browser does the rest (``*.js``): focus, selection, keys, dialogs, and a
queue that keeps each event in the browser until the log has it. The data holds no decisions: every grid reads them from
the log, so two tabs and two people see the same.

A cell is a dict: id, fingerprint, label, prediction, wrong, score (text), score_help, suggestion, suggestion_source,
problem (why there is no image), evidence (stored with each event). Instead of an image, ``text`` or ``rows``
([{name, value, unit, z, odd}, …]) may be shown. A panel is {title, note, cells}.

Cost: about 400 bytes per cell to the browser; images are cacheable addresses. Limit: a few hundred cells a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

import streamlit as st

from dashboard.auth.serving import serving
from dashboard.grid.scripts import scripts_version
from dashboard.style.colours import ROLES, css_variables
from scoring.reviews.verdicts import browser_table

LARGEST = 10
STYLES = ("grid.css", "contents.css", "session.css")
OPTIONAL = ("label", "prediction", "score", "score_help", "suggestion", "suggestion_source", "problem", "fingerprint")

# The scripts come from a route of this server, under an address that changes with their content. The import is
# started from the page's own address because a component's script has none.
ENTRY = """
const ready = import(new URL("/hardlook/grid/%s/main.js", window.location.origin).href);
export default async function (component) { return (await ready).default(component); }
"""


@dataclass(frozen=True)
class GridState:
    """The values a grid returns to its page: ``turn`` −1 or +1 once after PageUp or PageDown; ``saved`` the log's
    position."""

    turn: int = 0
    saved: int | None = None


def example_grid(
    panels: Sequence[Mapping[str, Any]],
    *,
    key: str,
    classes: Sequence[str],
    issues: Sequence[str],
    run: str | None,
    columns: int = 5,
    guidelines: str | None = None,
    layout: str = "side",
    turns: bool = False,
    notify: bool = False,
    ahead: Sequence[str] = (),
) -> GridState:
    """Shows panels of examples, in ``columns`` (1 to 10) each, side by side where there is room or ``layout="stack"``.

    classes: all class names, for the lists; issues: audit.toml's; run: whose maps and scores an opened example shows.
    turns: PageUp and PageDown turn the page (one rerun). notify: the page runs once after a pause in deciding, so that
    its counters are right; without it, nothing in the grid runs the page. ahead: the example_ids of the next page,
    whose images are loaded in advance.
    """
    result = show_component(
        panels,
        key=key,
        classes=classes,
        issues=issues,
        run=run,
        guidelines=guidelines,
        turns=turns,
        notify=notify,
        more={"columns": max(1, min(LARGEST, int(columns))), "layout": layout, "ahead": list(ahead)},
    )
    return GridState(int(result.get("turn") or 0), result.get("saved"))


def show_component(
    panels: Sequence[Mapping[str, Any]],
    *,
    key: str,
    classes: Sequence[str],
    issues: Sequence[str],
    run: str | None,
    guidelines: str | None = None,
    turns: bool = False,
    notify: bool = False,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Mapping[str, Any]:
    """Shows the component that grid and session share, and returns its values; ``more`` is sent to the browser
    unchanged."""
    serves = serving()
    data = {
        "key": key,
        "turns": turns,
        "notify": notify,
        "panels": [_panel(panel) for panel in panels],
        "classes": list(classes),
        "issues": list(issues),
        "run": run,
        "guidelines": guidelines,
        "audit": serves.token,
        "reviewer": serves.identity.reviewer,
        "read_only": serves.identity.read_only,
        "marks": {name: asdict(role) for name, role in ROLES.items()},
        "verdicts": browser_table(),
        **more,
    }
    return _component()(key=key, data=data, on_turn_change=_ignore, on_saved_change=_ignore)


def _panel(panel: Mapping[str, Any]) -> dict[str, Any]:
    cells = [{**dict.fromkeys(OPTIONAL), **cell} for cell in panel["cells"]]
    return {"title": panel.get("title"), "note": panel.get("note"), "cells": cells}


def _ignore() -> None:
    """Does nothing. Streamlit creates a component value only if a callback is named for it."""


@cache
def _component() -> Any:
    folder = resources.files("dashboard.grid")
    styles = [folder.joinpath(name).read_text(encoding="utf8") for name in STYLES]
    css = "\n".join([f".hl-root{{{css_variables()}}}", *styles])
    return st.components.v2.component("hardlook_grid", js=ENTRY % scripts_version(), css=css, isolate_styles=False)
