"""What this process serves: the audit, its review log and its network address.

``dashboard.server`` sets it once, before the first page is shown; pages, routes and the grid call ``serving()``. A page
that runs without a server (in a test, for example) reads the environment: ``HARDLOOK_AUDIT``, ``HARDLOOK_LOG``.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dashboard.auth.identity import Access, Identity, verified_name, visitor
from dashboard.auth.oidc import login_settings, secrets_file
from scoring.audit import CONFIG, Audit
from scoring.audit.errors import HardlookError


@dataclass(frozen=True)
class Serving:
    """One audit, one review log, one address, and the settings of who may reach it.

    proxies, user_header, url: options of the command; otherwise audit.toml's ``[access]`` counts.
    """

    audit_path: Path
    log_url: str
    host: str
    proxies: tuple[str, ...] = ()
    user_header: str | None = None
    url: str | None = None

    @cached_property
    def token(self) -> str:
        """A hash that identifies the log without its address, so that pages of another audit on the same port are
        recognised."""
        return hashlib.sha256(f"{self.audit_path}\n{self.log_url}".encode()).hexdigest()[:16]

    @cached_property
    def login(self) -> dict[str, Any] | None:
        """``[auth]`` of the audit's .streamlit/secrets.toml if people sign in, else None."""
        return login_settings(secrets_file(self.audit_path))

    @property
    def access(self) -> Access:
        """How visitors are identified, with the roles that audit.toml has now."""
        return _access(self, (self.audit_path / CONFIG).stat().st_mtime_ns)

    @property
    def identity(self) -> Identity:
        """The visitor of this page, or the sender of this request, with permissions."""
        request_visitor = visitor.get()
        return self.access.identify(_page_visitor()) if request_visitor is None else request_visitor


@lru_cache(maxsize=4)
def _access(serves: Serving, _stamp: int) -> Access:
    audit = Audit.open(serves.audit_path)
    access = audit.access
    url = serves.url or access.get("url")
    if serves.login is not None and url is None and "{port}" not in serves.login["redirect_uri"]:
        parts = urlsplit(serves.login["redirect_uri"])
        url = f"{parts.scheme}://{parts.netloc}"
    return Access(
        serves.host,
        tuple(serves.proxies or access.get("proxies", ())),
        serves.user_header or access.get("user_header", Access.user_header),
        url,
        serves.login is not None,
        access.get("claim", Access.claim),
        audit.roles,
    )


def _page_visitor() -> str | None:
    """Returns the name sent with the connection of the current page; None outside of pages."""
    if "streamlit" not in sys.modules:
        return None
    import streamlit as st
    from streamlit.runtime.scriptrunner import get_script_run_ctx

    return None if get_script_run_ctx(suppress_warning=True) is None else verified_name(st.context.headers)


_current: Serving | None = None


def serve_this(
    audit_path: str | Path,
    log_url: str | None = None,
    host: str = "127.0.0.1",
    *,
    proxies: tuple[str, ...] = (),
    user_header: str | None = None,
    url: str | None = None,
) -> Serving:
    """Checks the audit and make it what this process serves."""
    global _current
    audit = Audit.open(audit_path)
    _current = Serving(audit.root, log_url or audit.log_url, host, tuple(proxies), user_header, url)
    _ = _current.access  # raises an error in the settings now
    return _current


def serving() -> Serving:
    """Returns what this process serves. Raises ``HardlookError`` if nothing is set."""
    if _current is not None:
        return _current
    path = os.environ.get("HARDLOOK_AUDIT")
    if path is None:
        raise HardlookError("no audit is served here; start with `hardlook dashboard AUDIT`")
    return serve_this(path, os.environ.get("HARDLOOK_LOG"))
