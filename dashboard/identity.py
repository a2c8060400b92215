"""Who is reviewing, and which requests may be answered at all.

On a server bound to loopback the reviewer is the operating system's user who started it. On any other address nobody
is known yet, so the server shows and records nothing: pages and pictures can be looked at, decisions are refused.

Three attacks are closed here, for pages, pictures and decisions alike:

- a web page elsewhere that points its own name at this machine (DNS rebinding): the Host header must name this machine;
- a web page elsewhere that posts to this machine (CSRF): Origin must be this server, the content type JSON, and a
  header that no form can send must be there;
- a proxy on this machine that lets others in: forwarded requests may look, not decide.

Limit: another user of the same machine who reaches the loopback port decides under the name of whoever started it.
"""

from __future__ import annotations

import getpass
import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

HEADER = "x-hardlook"
PREFIX = "/hardlook/"
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


@dataclass(frozen=True)
class Identity:
    """Who decides on this server (``reviewer``), or in one sentence why nobody may (``read_only``)."""

    host: str
    reviewer: str | None
    read_only: str | None


def identify(host: str) -> Identity:
    """The identity of a server bound to ``host``."""
    if is_loopback(host):
        return Identity(host, system_user(), None)
    reason = (
        f"Read-only: this server is bound to {host}, where it cannot tell who is reviewing. "
        "Start it without --host and reach it from this machine (or through an ssh tunnel) to decide."
    )
    return Identity(host, None, reason)


def is_loopback(host: str) -> bool:
    """Whether an address serves only this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def system_user() -> str:
    """The operating system's user of this process, from the account data base rather than the environment."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):  # Windows; a container's user without an account
        pass
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return f"uid {os.getuid()}"


def host_refusal(identity: Identity, host_header: str | None) -> str | None:
    """Why a request with this Host header is not answered, or None.

    A name in the header that is not this machine's is how a foreign page reaches a private server. Plain addresses
    cannot be rebound, so they pass on a server that is open to the network.
    """
    name = _host_name(host_header)
    if name is None:
        return "The request names no valid Host."
    if name == "localhost" or is_loopback(name):
        return None
    if is_loopback(identity.host):
        return f"This server answers only as localhost, not as {name[:100]!r}."
    if _address(name) is not None or name in _own_names(identity.host):
        return None
    return f"This server does not go by the name {name[:100]!r}; use its address."


def origin_refusal(origin: str | None, host_header: str | None) -> str | None:
    """Why a request from a page of this Origin is not answered, or None. No Origin: not sent by a page."""
    if origin is None:
        return None
    parts = urlsplit(origin)
    if parts.scheme in ("http", "https") and parts.netloc.lower() == (host_header or "").lower():
        return None
    return f"The request comes from a page of {origin[:100]!r}, not from this server."


def decision_refusal(identity: Identity, headers: Mapping[str, str], peer: str | None) -> str | None:
    """Why this request may not write to the log, or None: identity, CSRF, forwarding."""
    if identity.reviewer is None:
        return identity.read_only
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        return "Decisions are sent as application/json."
    if HEADER not in headers:
        return f"Decisions carry the header {HEADER}; a page elsewhere cannot send it."
    if any(name in headers for name in FORWARDED):
        return "This request came through a proxy, so who sent it is not known. Reach the server from its own machine."
    if peer is not None and not is_loopback(peer):
        return f"This request came from {peer}; this server takes decisions from its own machine only."
    return origin_refusal(headers.get("origin"), headers.get("host"))


class Gate:
    """ASGI middleware before everything else: foreign Host headers, and foreign pages' sockets, are answered 403.

    ``own``: the app of hardlook's own routes. It is asked directly: a page of a hundred thumbnails would else pass a
    hundred times through sessions, cookies and compression that pictures have no use for.
    """

    def __init__(self, app, identity: Identity, own=None):
        self.app, self.identity, self.own = app, identity, own

    async def __call__(self, scope, receive, send):
        refusal = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            direct = self.own is not None and scope["type"] == "http" and scope["path"].startswith(PREFIX)
            await (self.own if direct else self.app)(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[:120]})
        else:
            from starlette.responses import PlainTextResponse

            await PlainTextResponse(refusal, status_code=403)(scope, receive, send)

    def _refusal(self, scope) -> str | None:
        headers = {name.decode("latin1").lower(): value.decode("latin1") for name, value in scope["headers"]}
        refusal = host_refusal(self.identity, headers.get("host"))
        if refusal is None and scope["type"] == "websocket":
            refusal = origin_refusal(headers.get("origin"), headers.get("host"))
        return refusal


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None


def _host_name(header: str | None) -> str | None:
    """The name in a Host header, without the port.

    >>> _host_name("[::1]:8501"), _host_name("localhost:1"), _host_name("")
    ('::1', 'localhost', None)
    """
    try:
        return urlsplit(f"//{header}").hostname if header else None
    except ValueError:
        return None


def _own_names(host: str) -> set[str]:
    name = socket.gethostname().lower()
    return {host.lower(), name, name.split(".")[0], f"{name.split('.')[0]}.local"}
