"""The meeting's screen: one item of the agenda, in large type, the same for everybody within a second or two.

The browser polls ``/hardlook/meeting`` once a second and shows the reply; a lead's keys are posted there
(``dashboard.routes.meeting_routes``). No key runs the page; it runs once when a meeting is opened or closed.

Inputs → outputs: a Streamlit component of one JS and one CSS file. Cost: one small request per second and browser.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import streamlit as st

from dashboard.auth.serving import serving
from dashboard.style.colours import css_variables


def meeting_screen(number: int | None, key: str = "meeting") -> None:
    """Shows the current item of the open meeting, or that none is open, and keeps it up to date.

    ``number`` is the meeting that the page was made for. The browser requests the page again if another one is open.
    """
    serves = serving()
    data = {"audit": serves.token, "leads": serves.identity.may("lead"), "meeting": number}
    _component()(key=key, data=data, on_changed_change=lambda: None)


@cache
def _component() -> Any:
    files = resources.files("dashboard.meeting")
    script, style = (files.joinpath(name).read_text(encoding="utf8") for name in ("meeting.js", "meeting.css"))
    css = f".hl-meeting{{{css_variables()}}}\n{style}"
    return st.components.v2.component("hardlook_meeting", js=script, css=css, isolate_styles=False)
