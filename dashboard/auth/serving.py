"""What this process serves: the audit, its review log and its network address.

``dashboard.server`` sets it once, before the first page is shown; pages, routes and the grid call ``serving()``. A page
that runs without a server (in a test, for example) reads the environment: ``HARDLOOK_AUDIT``, ``HARDLOOK_LOG``.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dashboard.auth.identity import Access, Identity, verified_name, visitor
from dashboard.auth.oidc import login_settings, secrets_file
from scoring.audit import CONFIG, Audit
from scoring.audit.errors import HardlookError, first_line


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
    def settings(self) -> Settings:
        """The audit and its access as audit.toml has them now, or as it last had them where it is broken or gone."""
        return _current_settings(self)

    @property
    def access(self) -> Access:
        """Returns how visitors are identified, with the roles that audit.toml has now."""
        return self.settings.access

    @property
    def identity(self) -> Identity:
        """The visitor of this page, or the sender of this request, with permissions."""
        request_visitor = visitor.get()
        return self.access.identify(_page_visitor()) if request_visitor is None else request_visitor


@dataclass(frozen=True)
class Settings:
    """What audit.toml said when it was last sound. ``problem``: why what it holds now cannot be used, or None."""

    stamp: tuple[int, int, int] | None
    audit: Audit
    access: Access
    problem: str | None = None


_settings: dict[Serving, Settings] = {}


def _current_settings(serves: Serving) -> Settings:
    """Reads audit.toml where it changed. A server goes on with the last sound one, because an editor's half-saved file
    must not stop everybody's work. Raises ``HardlookError`` where there was none."""
    stamp, known = _stamp(serves.audit_path / CONFIG), _settings.get(serves)
    if known is not None and known.stamp == stamp:
        return known
    try:
        audit = Audit.open(serves.audit_path)
        found = Settings(stamp, audit, _access(serves, audit))
    except (HardlookError, OSError) as error:
        if known is None:
            raise
        problem = f"{first_line(error)}. Until it is mended, this server goes on with the settings that it had before."
        found = replace(known, stamp=stamp, problem=problem)
    _settings[serves] = found
    return found


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Returns time, size and number of a file, by which a change is seen; None where it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _access(serves: Serving, audit: Audit) -> Access:
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
    serves = Serving(audit.root, log_url or audit.log_url, host, tuple(proxies), user_header, url)
    _settings.pop(serves, None)  # what it was before this server is no concern of its
    _ = serves.access  # raises an error in the settings now
    _current = serves
    return serves


def serving() -> Serving:
    """Returns what this process serves. Raises ``HardlookError`` if nothing is set."""
    if _current is not None:
        return _current
    path = os.environ.get("HARDLOOK_AUDIT")
    if path is None:
        raise HardlookError("no audit is served here; start with `hardlook dashboard AUDIT`")
    return serve_this(path, os.environ.get("HARDLOOK_LOG"))
