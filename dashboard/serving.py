"""What this process serves: the audit, its review log and the address that it is bound to.

``dashboard.server`` says it once, before the first page is drawn; pages, routes and the grid ask ``serving()``. A page
that runs without a server (a test, say) reads the environment: ``HARDLOOK_AUDIT``, ``HARDLOOK_LOG``.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dashboard.identity import Identity, identify
from scoring.audit import Audit
from scoring.tables import HardlookError


@dataclass(frozen=True)
class Serving:
    """One audit, one review log, one address."""

    audit_path: Path
    log_url: str
    host: str

    @cached_property
    def token(self) -> str:
        """Names the log without telling where it is; a page of another audit on the same port is told apart by it."""
        return hashlib.sha256(f"{self.audit_path}\n{self.log_url}".encode()).hexdigest()[:16]

    @cached_property
    def identity(self) -> Identity:
        """Who decides here, or why nobody may."""
        return identify(self.host)


_current: Serving | None = None


def serve_this(audit_path: str | Path, log_url: str | None = None, host: str = "127.0.0.1") -> Serving:
    """Check the audit and make it what this process serves."""
    global _current
    audit = Audit.open(audit_path)
    _current = Serving(audit.root, log_url or audit.log_url, host)
    return _current


def serving() -> Serving:
    """What this process serves. Raises ``HardlookError`` where nothing was said."""
    if _current is not None:
        return _current
    path = os.environ.get("HARDLOOK_AUDIT")
    if path is None:
        raise HardlookError("no audit is served here; start with `hardlook dashboard AUDIT`")
    return serve_this(path, os.environ.get("HARDLOOK_LOG"))
