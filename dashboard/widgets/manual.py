"""Links from the pages to the manual, which open in the same tab.

Streamlit opens every link in Markdown in a new tab and with a new session. The component of ``keep_in_tab``, drawn
once per page, follows a plain click on a link to /help inside the app: it adds the address to the browser's history
and tells Streamlit, as the button Back does. A click with Ctrl, Shift or the middle button still opens a new tab.

Inputs → outputs: a topic → Markdown, or a link of the sidebar. Cost: none. Limit: a link in a table, which is drawn
on a canvas, opens a new tab.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import streamlit as st

from dashboard.help import INDEX, address, read_topic
from dashboard.pages import PAGES

SCORES = "scores"
"""The topic with a heading for each score."""
SCRIPT = """
const LONGEST = 10000; // milliseconds until the heading of a topic has been drawn
const STEADY = 1000; // milliseconds for which what is above it may still grow
const READER = ["wheel", "keydown", "pointerdown"];

function showHeading(hash) {
  const anchor = decodeURIComponent(hash.slice(1));
  let until = Date.now() + LONGEST;
  let found = false;
  const stop = () => (until = 0); // who reads on is left alone
  READER.forEach((act) => document.addEventListener(act, stop, { once: true, capture: true }));
  const look = () => {
    if (Date.now() >= until) return;
    const heading = document.getElementById(anchor);
    if (heading && !found) until = Date.now() + STEADY;
    found ||= Boolean(heading);
    heading?.scrollIntoView();
    setTimeout(look, 50);
  };
  look();
}

function follow(event) {
  const link = event.target.closest?.('a[href^="/help"]');
  if (!link || link.closest('[data-testid="stPageLink"]')) return; // Streamlit follows its own links itself
  if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const to = new URL(link.href);
  history.pushState({}, "", to.href);
  window.dispatchEvent(new PopStateEvent("popstate", { state: {} }));
  if (to.hash) showHeading(to.hash);
  else document.querySelector('[data-testid="stMain"]')?.scrollTo(0, 0);
}

export default function () {
  if (window.hardlookManual) return;
  window.hardlookManual = true;
  document.addEventListener("click", follow, true);
  if (location.pathname.endsWith("/help") && location.hash) showHeading(location.hash);
}
"""


def keep_in_tab() -> None:
    """Follow links to the manual inside the app, once per browser tab."""
    _component()(key="_manual", height=0)


@cache
def _component() -> Any:
    return st.components.v2.component("hardlook_manual", js=SCRIPT)


def show_link(page: str) -> None:
    """In the sidebar: a link to the topic of the page that is open; nothing on the manual itself and on no page."""
    topic = next((one.topic for one in PAGES if one.name == page), INDEX)
    if topic != INDEX:
        st.page_link("views/help.py", label="Help on this page", icon=":material/help:", query_params={"topic": topic})


def score_address(scorer: str) -> str | None:
    """The address of what the manual says of a score; None for a score that is not in it, such as one of a team's own.

    >>> score_address("vog"), score_address("our_own")
    ('/help?topic=scores#vog', None)
    """
    known = scorer in {one.anchor for one in read_topic(SCORES).sections}
    return address(SCORES, scorer) if known else None


def score_link(scorer: str) -> str:
    """A Markdown link to what the manual says of a score, or nothing.

    >>> score_link("vog")
    '[More in the manual](/help?topic=scores#vog)'
    """
    found = score_address(scorer)
    return f"[More in the manual]({found})" if found else ""
