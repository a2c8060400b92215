"""Who is reviewing, what they may do, and which requests may be answered at all.

There are three ways to know who is there, chosen when the server starts:

- *alone*: bound to loopback, the reviewer is the operating system's user who started it, under the name that they
  gave when the page asked for one;
- *proxy*: a reverse proxy at a named address says it in a header; the header of anybody else is thrown away;
- *oidc*: ``st.login`` with ``[auth]`` in secrets.toml; every request carries Streamlit's signed cookie.

On another address without one of these, everybody may look and nobody decide. Roles (``scoring.audit.roles``) say what
a known person may do. ``Gate`` finds out once per request, before everything else, and hands the name on in a header
that it takes away from whoever else sends it: pages, pictures and events all ask the same answer.

Three attacks are closed here, for pages, pictures and decisions alike:

- a web page elsewhere that points its own name at this machine (DNS rebinding): the Host header must name this server;
- a web page elsewhere that posts to this machine (CSRF): Origin must be this server, the content type JSON, and a
  header that no form can send must be there;
- a forged header: only a trusted proxy is believed, and a request that came to a server of one machine alone through
  a proxy may look, not decide.

Limits: another user of the same machine who reaches the loopback port decides under the name of whoever started it,
and can speak as a proxy that is trusted at a loopback address.
"""

from __future__ import annotations

import getpass
import ipaddress
import os
import socket
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from scoring.audit.errors import HardlookError
from scoring.audit.roles import role_includes, role_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

HEADER = "x-hardlook"
VERIFIED = "x-hardlook-user"  # who it is, set by the Gate alone
GUARDED = ("/hardlook/", "/media/")
PREFIX = "/hardlook/"
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
LONGEST_NAME = 200
UNKNOWN = (
    "Sign in: this server shows nothing to people whom it does not know. "
    f"(A name has 1 to {LONGEST_NAME} characters that can be printed.)"
)

visitor: ContextVar[Identity | None] = ContextVar("visitor", default=None)
"""Who sent the request that is being answered."""


@dataclass(frozen=True)
class Identity:
    """One visitor: their name, or None; their role, or None; and in one sentence why they may not decide, or None."""

    host: str
    reviewer: str | None
    read_only: str | None
    role: str | None = None
    alone: bool = True

    def name(self) -> str:
        """Returns the reviewer's name; ``HardlookError`` with the reason where nobody is known."""
        if self.reviewer is None:
            raise HardlookError(self.read_only or UNKNOWN)
        return self.reviewer

    def may(self, role: str) -> bool:
        """Whether their role includes this one."""
        return role_includes(self.role, role)


@dataclass(frozen=True)
class Access:
    """How a server knows who is there: its address, trusted proxies with their header, or OIDC; and the roles."""

    host: str
    proxies: tuple[str, ...] = ()
    user_header: str = "x-forwarded-user"
    url: str | None = None
    oidc: bool = False
    claim: str = "email"
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for proxy in self.proxies:
            _network(proxy)
        if self.proxies and self.oidc:
            raise HardlookError("both a trusted proxy and [auth] in secrets.toml say who is there; keep one of them")
        if self.user_header.lower() in (VERIFIED, HEADER, "host", "origin", "cookie"):
            raise HardlookError(
                f"user_header = {self.user_header!r}; needed the header in which the proxy names the user"
            )

    @property
    def way(self) -> str:
        """alone, proxy, oidc or open."""
        if self.oidc or self.proxies:
            return "oidc" if self.oidc else "proxy"
        return "alone" if is_loopback(self.host) else "open"

    def identify(self, name: str | None) -> Identity:
        """What the person of that name may do here; None: it is not known who is there."""
        if self.way == "alone":
            name = own_name()
            return self._with_role(name, role_of(name, self.roles, "lead"))
        if self.way == "open":
            reason = (
                f"Read-only: this server is bound to {self.host}, where it cannot tell who is reviewing. Start it "
                "with --trust-proxy or [auth] in secrets.toml, or reach it from its own machine to decide."
            )
            return Identity(self.host, None, reason, "viewer", alone=False)
        if name is None:
            return Identity(self.host, None, UNKNOWN, None, alone=False)
        return self._with_role(name, role_of(name, self.roles, None if self.roles else "auditor"))

    def _with_role(self, name: str, role: str | None) -> Identity:
        reason = None
        if role is None:
            reason = f"{name} has no role in this audit; whoever keeps it adds the name under [roles] in audit.toml."
        elif not role_includes(role, "auditor"):
            reason = f"Read-only: {name} is a {role} of this audit; auditors and leads decide."
        return Identity(self.host, name, reason, role, self.way == "alone")

    def name_of(self, headers: list[tuple[str, str]], peer: str | None) -> str | None:
        """Who sent a request with these headers from this address, or None."""
        if self.way == "proxy" and self.trusts(peer):
            named = [value for name, value in headers if name == self.user_header.lower()]
            return _clean(_as_utf8(named[0])) if len(named) == 1 else None
        if self.way == "oidc":
            from dashboard.auth.oidc import signed_in_as

            return _clean(signed_in_as(dict(headers).get("cookie"), self.claim))
        return None

    def trusts(self, peer: str | None) -> bool:
        """Whether a request from this address comes from a trusted proxy."""
        address = None if peer is None else _address(peer)
        mapped = getattr(address, "ipv4_mapped", None) or address
        return mapped is not None and any(mapped in _network(proxy) for proxy in self.proxies)

    @property
    def public_name(self) -> str | None:
        """The name under which browsers reach this server through a proxy."""
        return urlsplit(self.url).hostname if self.url else None


def identify(host: str) -> Identity:
    """Who is there on a server bound to ``host`` that was told nothing else."""
    return Access(host).identify(None)


def is_loopback(host: str) -> bool:
    """Whether an address serves only this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


# -- the one person of a server that serves its machine alone --------------------------------------------------------


def own_name() -> str:
    """The name that was given once, else the operating system's user."""
    return given_name() or system_user()


def given_name() -> str | None:
    """The name that this user gave when a page asked, or None."""
    try:
        return _clean(_name_path().read_text(encoding="utf8").strip())
    except (OSError, UnicodeDecodeError):
        return None


def give_name(name: str) -> None:
    """Remember under which name this user of this machine decides, for all audits."""
    from scoring.audit.storage import atomic_path

    clean = _clean(name.strip())
    if clean is None:
        raise HardlookError(
            f"{name[:50]!r} is no name: needed 1 to {LONGEST_NAME} characters without control characters"
        )
    _name_path().parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(_name_path()) as temporary:
        temporary.write_text(clean, encoding="utf8")


def _name_path() -> Path:
    from pathlib import Path

    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "hardlook" / "name"


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


# -- which requests are answered -------------------------------------------------------------------------------------


def host_refusal(access: Access | Identity, host_header: str | None) -> str | None:
    """Why a request with this Host header is not answered, or None.

    A name in the header that is not this machine's is how a foreign page reaches a private server. Plain addresses
    cannot be rebound, so they pass on a server that is open to the network.
    """
    name = _host_name(host_header)
    if name is None:
        return "The request names no valid Host."
    if name == "localhost" or is_loopback(name) or name == getattr(access, "public_name", None):
        return None
    if is_loopback(access.host):
        return f"This server answers only as localhost, not as {name[:100]!r}."
    if _address(name) is not None or name in _own_names(access.host):
        return None
    return f"This server does not go by the name {name[:100]!r}; use its address."


def origin_refusal(origin: str | None, host_header: str | None, url: str | None = None) -> str | None:
    """Why a request from a page of this Origin is not answered, or None. No Origin: not sent by a page.

    ``url``: the server's own address as browsers see it through a proxy.
    """
    if origin is None or (url is not None and origin.lower() == url.lower().rstrip("/")):
        return None
    parts = urlsplit(origin)
    if parts.scheme in ("http", "https") and parts.netloc.lower() == (host_header or "").lower():
        return None
    return f"The request comes from a page of {origin[:100]!r}, not from this server."


def decision_refusal(
    identity: Identity, headers: Mapping[str, str], peer: str | None, url: str | None = None, needed: str = "auditor"
) -> str | None:
    """Why this request may not write to the log, or None: role, CSRF, forwarding.

    ``needed``: the role that what it writes asks for.
    """
    if identity.read_only is not None:
        return identity.read_only
    if not identity.may(needed):
        return f"{identity.reviewer} is {_a(identity.role)} of this audit; this needs {_a(needed)}."
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        return "Decisions are sent as application/json."
    if HEADER not in headers:
        return f"Decisions carry the header {HEADER}; a page elsewhere cannot send it."
    if identity.alone and any(name in headers for name in FORWARDED):
        return "This request came through a proxy, so who sent it is not known. Reach the server from its own machine."
    if identity.alone and peer is not None and not is_loopback(peer):
        return f"This request came from {peer}; this server takes decisions from its own machine only."
    return origin_refusal(headers.get("origin"), headers.get("host"), url)


def _a(role: str | None) -> str:
    return {"auditor": "an auditor", "lead": "a lead", "viewer": "a viewer"}.get(role or "", "nobody")


class Gate:
    """ASGI middleware before everything else: foreign Host headers, foreign pages' sockets and, where people are told
    apart, pictures for people without a role are answered 403.

    ``access``: () -> Access, asked anew for each request, so that a changed audit.toml counts at once. ``own``: the app
    of hardlook's own routes. It is asked directly: a page of a hundred thumbnails would else pass a hundred times
    through sessions, cookies and compression that pictures have no use for.
    """

    def __init__(self, app: ASGIApp, access: Callable[[], Access], own: ASGIApp | None = None) -> None:
        self.app, self.access, self.own = app, access, own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        access = self.access()
        headers = [(name.decode("latin1").lower(), value.decode("latin1")) for name, value in scope["headers"]]
        peer = scope["client"][0] if scope.get("client") else None
        refusal = self._refusal(access, scope, dict(headers))
        if refusal is None:
            name = access.name_of(headers, peer)
            identity = access.identify(name)
            if identity.role is None and scope["type"] == "http" and scope["path"].startswith(GUARDED):
                refusal = identity.read_only
        if refusal is not None:
            await self._refuse(refusal, scope, receive, send)
            return
        kept = [(key, value) for key, value in scope["headers"] if key.decode("latin1").lower() != VERIFIED]
        told = [] if name is None else [(VERIFIED.encode(), quote(name).encode())]
        direct = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        app = self.own if direct and self.own is not None else self.app
        token = visitor.set(identity if scope["type"] == "http" else None)
        try:
            await app({**scope, "headers": kept + told}, receive, send)
        finally:
            visitor.reset(token)

    @staticmethod
    def _refusal(access: Access, scope: Scope, headers: Mapping[str, str]) -> str | None:
        refusal = host_refusal(access, headers.get("host"))
        if refusal is None and scope["type"] == "websocket":
            refusal = origin_refusal(headers.get("origin"), headers.get("host"), access.url)
        return refusal

    @staticmethod
    async def _refuse(refusal: str, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[:120]})
        else:
            from starlette.responses import PlainTextResponse

            await PlainTextResponse(refusal, status_code=403)(scope, receive, send)


def verified_name(headers: Mapping[str, str]) -> str | None:
    """The name that the Gate put into a request's headers."""
    value = headers.get(VERIFIED)
    return None if value is None else unquote(value)


def _clean(name: str | None) -> str | None:
    """A name as text, or None where it is none: empty, too long, or with control characters."""
    name = (name or "").strip()
    return name if 0 < len(name) <= LONGEST_NAME and name.isprintable() else None


def _as_utf8(value: str) -> str:
    """A header's value, which comes as Latin-1; nearly all proxies mean UTF-8."""
    try:
        return value.encode("latin1").decode("utf8")
    except UnicodeDecodeError:
        return value


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise HardlookError(f"trusted proxy {text!r} is no address; write one as 10.0.0.5 or 10.0.0.0/24") from error


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
