"""The visitor of a page: name, role, the buttons to sign in and out, and the form for the name.

Permissions are not checked here: events, images and jobs check them with ``dashboard.auth.identity``.
"""

from __future__ import annotations

import streamlit as st

from dashboard.auth import identity
from dashboard.auth.serving import serving
from dashboard.style.formatting import quoted
from scoring.audit.errors import HardlookError


def require_role() -> None:
    """Ends the page for people without a role, with a button to sign in."""
    who = serving().identity
    if who.role is not None:
        return
    st.title("hardlook", anchor=False)
    st.info(quoted(who.read_only or "", longest=500), icon=":material/lock:")
    if serving().access.method == "oidc":
        _sign_in_or_out(who.reviewer)
    st.stop()


def show_visitor() -> None:
    """Shows the reviewer's name and role in the sidebar, and the form for the name on a single-user server."""
    who = serving().identity
    if who.reviewer is None:
        st.caption(who.read_only)
        return
    role = "" if who.alone else f" · {who.role}"
    st.caption(f"Reviewing as {quoted(who.reviewer)}{role}")
    if who.alone:
        _ask_name(who.reviewer)
    elif serving().access.method == "oidc":
        _sign_in_or_out(who.reviewer)


def _sign_in_or_out(name: str | None) -> None:
    if name is None:
        if st.button("Sign in", icon=":material/login:", key="sign_in", type="primary"):
            st.login()
    elif st.button("Sign out", icon=":material/logout:", key="sign_out", type="tertiary"):
        st.logout()


def _ask_name(current: str) -> None:
    """Shows the form for the name: open until a name is entered, later behind a button."""
    if identity.given_name() is None:
        with st.expander("Your name"):
            _name_form(current)
    else:
        with st.popover("Change name", type="tertiary"):
            _name_form(current)


def _name_form(current: str) -> None:
    with st.form("own_name", border=False):
        name = st.text_input(
            "Name in the log",
            value=current,
            max_chars=identity.LONGEST_NAME,
            help="Your decisions are recorded under this name. It is saved for your user account on this machine.",
        )
        if not st.form_submit_button("Use this name"):
            return
    try:
        identity.give_name(name)
    except HardlookError as error:
        st.error(quoted(str(error), longest=500))
    else:
        st.rerun()
