"""The browser's history: one entry per opened page, each with the parameters of that page.

Streamlit 1.67 has two faults here. First, at a link to another page it pushes the page that is left once more, without
its parameters, so that Back leads there. ``install_script`` replaces that entry with the next one. Second, at Back it
drops from the address the parameters that are bound to widgets of the page that is left, even if the other page has
parameters of the same names. ``parameters_after_back`` returns the parameters that the address really had. If a page
writes the meaning of missing parameters into its address (``OPENS``), that replaces the entry before, so that Back
leaves the page.

Inputs → outputs: an invisible Streamlit component. Cost: none. Limit: an entry that a page adds within two seconds
before a link is followed is replaced too.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import parse_qs

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

OPENS = "opens"
"""The parameter that names the page's own default."""

SCRIPT = """
const rest = ({ search }) => {
  const left = new URLSearchParams(search);
  left.delete("opens");
  return left.toString();
};
const SOON = 2000; // milliseconds between the stray entry and the requested page

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
    """Installs the script that corrects the browser's history, once per browser tab."""
    _component()(key="_history", height=0)


@cache
def _component() -> Any:
    return st.components.v2.component("hardlook_history", js=SCRIPT)


def parameters_after_back() -> dict[str, Any] | None:
    """Returns the parameters of the address after Back or Forward; None in any other run of the page."""
    context = get_script_run_ctx(suppress_warning=True)
    if context is None or not context.is_history_navigation:
        return None
    found = parse_qs(context.query_string, keep_blank_values=True)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
