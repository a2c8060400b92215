"""The browser's history: one entry per page that was opened, each with the parameters that it had.

Streamlit 1.67 goes wrong twice. At a link to another page it first pushes the page that is left once more, without its
parameters, so that Back leads there: ``install_script`` lets the next entry take the place of that one. And at Back it drops from
the address what the left page's widgets are bound to, though the page returned to has parameters of the same names:
``parameters_after_back`` tells what the address really held. Where a page writes into its address what the missing parameters mean
(``OPENS``), that takes the place of the entry before, so that Back leads away from it.

Inputs → outputs: a Streamlit component that draws nothing. Cost: none. Limit: an entry that a page adds within two
seconds before a link is followed is replaced too.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import parse_qs

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

OPENS = "opens"
"""The parameter that says what a page chose by itself."""

SCRIPT = """
const rest = ({ search }) => {
  const left = new URLSearchParams(search);
  left.delete("opens");
  return left.toString();
};
const SOON = 2000; // milliseconds between the stray entry and the page that was asked for

export default function () {
  if (window.hardlookHistory) return;
  window.hardlookHistory = true;
  const push = history.pushState.bind(history);
  let stray = null; // when an entry was pushed for the same page with no parameters left
  history.pushState = (state, unused, url) => {
    const to = new URL(url ?? location.href, location.href);
    const left = stray !== null && Date.now() - stray < SOON;
    stray = null;
    if (to.pathname === location.pathname && to.search !== location.search && rest(to) === rest(location))
      return history.replaceState(state, unused, url);
    if (to.pathname === location.pathname && to.search.length < location.search.length) stray = Date.now();
    else if (left && to.pathname !== location.pathname) return history.replaceState(state, unused, url);
    return push(state, unused, url);
  };
}
"""


def install_script() -> None:
    """Watch what is pushed onto the browser's history, once per browser tab."""
    _component()(key="_history", height=0)


@cache
def _component() -> Any:
    return st.components.v2.component("hardlook_history", js=SCRIPT)


def parameters_after_back() -> dict[str, Any] | None:
    """The parameters of the address that Back or Forward led to; None where a run has another reason."""
    context = get_script_run_ctx(suppress_warning=True)
    if context is None or not context.is_history_navigation:
        return None
    found = parse_qs(context.query_string, keep_blank_values=True)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
