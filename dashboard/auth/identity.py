"""The identity of a visitor, the roles, and which requests are answered at all.

There are three ways to identify visitors, chosen when the server starts:

- *alone*: the server is bound to loopback. The reviewer is the operating system's user who started it, under the name
  entered on the page;
- *proxy*: a reverse proxy at a trusted address names the user in a header; this header is ignored from anybody else;
- *oidc*: ``st.login`` with ``[auth]`` in secrets.toml; every request carries Streamlit's signed cookie.

On any other address everybody may look and nobody may decide. Roles (``scoring.audit.roles``) say what a known person
may do. ``Gate`` identifies the visitor once per request, before everything else, and passes the name on in a header
that it removes from every incoming request. Pages, images and events all use that name.

Three attacks are prevented here, for pages, images and decisions alike:

- a foreign web page that points its own name at this machine (DNS rebinding): the Host header must name this server;
- a foreign web page that posts to this machine (CSRF): Origin must be this server, the content type must be JSON, and
  a header that no form can send must be present;
- a forged header: only a trusted proxy is believed; a request that reaches a loopback server through a proxy may look
  but not decide.

Limits: another user of the same machine who reaches the loopback port decides under the name of the user who started
the server, and can act as a proxy that is trusted at a loopback address.
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
VERIFIED = "x-hardlook-user"  # the visitor's name, set by the Gate only
GUARDED = ("/hardlook/", "/media/", "/_stcore/metrics")
"""Addresses that only people with a role may read."""
NAMED = ("/_stcore/host-config",)
"""Addresses that a proxy's unnamed visitors may not read; a page needs them before somebody can sign in."""
PREFIX = "/hardlook/"
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
LONGEST_NAME = 200
UNKNOWN = (
    f"Sign in: this server shows pages to known users only. (A name has 1 to {LONGEST_NAME} printable characters.)"
)

visitor: ContextVar[Identity | None] = ContextVar("visitor", default=None)
"""The sender of the current request."""


@dataclass(frozen=True)
class Identity:
    """One visitor: name or None, role or None, and the reason why the visitor may not decide, or None."""

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
        """Returns whether their role includes this one."""
        return role_includes(self.role, role)


@dataclass(frozen=True)
class Access:
    """How a server identifies visitors (its address, trusted proxies with their header, or OIDC), and the roles."""

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
            raise HardlookError("both a trusted proxy and [auth] in secrets.toml identify users; remove one of them")
        if self.user_header.lower() in (VERIFIED, HEADER, "host", "origin", "cookie"):
            raise HardlookError(
                f"user_header = {self.user_header!r} cannot name a user; use the header in which the proxy sends the "
                "user's name"
            )

    @property
    def method(self) -> str:
        """alone, proxy, oidc or open."""
        if self.oidc or self.proxies:
            return "oidc" if self.oidc else "proxy"
        return "alone" if is_loopback(self.host) else "open"

    def identify(self, name: str | None) -> Identity:
        """Returns the identity of the person with that name; None for an unknown visitor."""
        if self.method == "alone":
            name = own_name()
            return self._with_role(name, role_of(name, self.roles, "lead"))
        if self.method == "open":
            reason = (
                f"Read-only: this server is bound to {self.host} and cannot identify reviewers. To decide, start it "
                "with --trust-proxy or with [auth] in secrets.toml, or bind it to localhost."
            )
            return Identity(self.host, None, reason, "viewer", alone=False)
        if name is None:
            return Identity(self.host, None, UNKNOWN, None, alone=False)
        return self._with_role(name, role_of(name, self.roles, None if self.roles else "auditor"))

    def _with_role(self, name: str, role: str | None) -> Identity:
        reason = None
        if role is None:
            reason = f"{name} has no role in this audit. Ask its owner to add the name under [roles] in audit.toml."
        elif not role_includes(role, "auditor"):
            reason = f"Read-only: {name} is a {role} of this audit; only auditors and leads can decide."
        return Identity(self.host, name, reason, role, self.method == "alone")

    def name_of(self, headers: list[tuple[str, str]], peer: str | None) -> str | None:
        """Returns the name of the sender of a request with these headers from this address, or None."""
        if self.method == "proxy" and self.trusts(peer):
            named = [value for name, value in headers if name == self.user_header.lower()]
            return _clean(_as_utf8(named[0])) if len(named) == 1 else None
        if self.method == "oidc":
            from dashboard.auth.oidc import signed_in_as

            return _clean(signed_in_as(dict(headers).get("cookie"), self.claim))
        return None

    def trusts(self, peer: str | None) -> bool:
        """Returns whether a request from this address comes from a trusted proxy."""
        address = None if peer is None else _address(peer)
        mapped = getattr(address, "ipv4_mapped", None) or address
        return mapped is not None and any(mapped in _network(proxy) for proxy in self.proxies)

    @property
    def public_name(self) -> str | None:
        """The name under which browsers reach this server through a proxy."""
        return urlsplit(self.url).hostname if self.url else None


def identify(host: str) -> Identity:
    """Returns the identity on a server bound to ``host`` without other settings."""
    return Access(host).identify(None)


def is_loopback(host: str) -> bool:
    """Returns whether an address serves only this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


# -- the one person of a server that serves its machine alone --------------------------------------------------------


def own_name() -> str:
    """Returns the name entered on the page, else the operating system's user."""
    return given_name() or system_user()


def given_name() -> str | None:
    """Returns the name that this user has entered on a page, or None."""
    try:
        return _clean(_name_path().read_text(encoding="utf8").strip())
    except (OSError, UnicodeDecodeError):
        return None


def give_name(name: str) -> None:
    """Saves the name under which this user of this machine decides, for all audits."""
    from scoring.audit.storage import atomic_path

    clean = _clean(name.strip())
    if clean is None:
        raise HardlookError(f"{name[:50]!r} is not a valid name; use 1 to {LONGEST_NAME} printable characters")
    _name_path().parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(_name_path()) as temporary:
        temporary.write_text(clean, encoding="utf8")


def _name_path() -> Path:
    from pathlib import Path

    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "hardlook" / "name"


def system_user() -> str:
    """Returns the operating system's user of this process, from the account database rather than the environment."""
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
    """Returns why a request with this Host header is refused, or None.

    A foreign page can reach a private server only under a name that is not the server's own. Plain addresses
    cannot be rebound, so they pass on a server that is open to the network.
    """
    name = _host_name(host_header)
    if name is None:
        return "The request has no valid Host header."
    if name == "localhost" or is_loopback(name) or name == getattr(access, "public_name", None):
        return None
    if is_loopback(access.host):
        return f"This server answers only to the name localhost, not to {name[:100]!r}."
    if _address(name) is not None or name in _own_names(access.host):
        return None
    return f"This server does not have the name {name[:100]!r}; use its address."


def origin_refusal(origin: str | None, host_header: str | None, url: str | None = None) -> str | None:
    """Returns why a request from a page of this Origin is refused, or None. A request without Origin does not come from
    a page.

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
    """Returns why this request may not write to the log (role, CSRF, forwarding), or None.

    ``needed``: the required role.
    """
    if identity.read_only is not None:
        return identity.read_only
    if not identity.may(needed):
        return (
            f"{identity.reviewer} is {_with_article(identity.role)} of this audit; this needs {_with_article(needed)}."
        )
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        return "Decisions must be sent as application/json."
    if HEADER not in headers:
        return f"Decisions need the header {HEADER}, which pages of other servers cannot send."
    if identity.alone and any(name in headers for name in FORWARDED):
        return "This request came through a proxy, so its sender is not known. Open the server from its own machine."
    if identity.alone and peer is not None and not is_loopback(peer):
        return f"This request came from {peer}. This server accepts decisions only from its own machine."
    return origin_refusal(headers.get("origin"), headers.get("host"), url)


def _with_article(role: str | None) -> str:
    return {"auditor": "an auditor", "lead": "a lead", "viewer": "a viewer"}.get(role or "", "nobody")


class Gate:
    """ASGI middleware before everything else. It answers 403 to foreign Host headers, to sockets of foreign pages and,
    if visitors are identified, to requests for images from people without a role.

    ``access``: () -> Access, called for each request, so that a changed audit.toml counts at once. ``own``: the app
    of hardlook's own routes. It is called directly, because images need no sessions, cookies or compression, and a
    page has a hundred thumbnails.
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
        if refusal is not None:
            await self._refuse(refusal, scope, receive, send)
            return
        name = access.name_of(headers, peer)
        identity = access.identify(name)
        if scope["type"] == "http" and self._needs_more(access, identity, scope["path"]):
            await self._refuse(identity.read_only or UNKNOWN, scope, receive, send)
            return
        kept = [(key, value) for key, value in scope["headers"] if key.decode("latin1").lower() != VERIFIED]
        name_header = [] if name is None else [(VERIFIED.encode(), quote(name).encode())]
        direct = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        app = self.own if direct and self.own is not None else self.app
        token = visitor.set(identity if scope["type"] == "http" else None)
        try:
            await app({**scope, "headers": kept + name_header}, receive, send)
        finally:
            visitor.reset(token)

    @staticmethod
    def _needs_more(access: Access, identity: Identity, path: str) -> bool:
        """Returns whether this visitor may not read this address."""
        unnamed = access.method == "proxy" and identity.reviewer is None
        return (identity.role is None and path.startswith(GUARDED)) or (unnamed and path.startswith(NAMED))

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
    """Returns the name that the Gate put into a request's headers."""
    value = headers.get(VERIFIED)
    return None if value is None else unquote(value)


def _clean(name: str | None) -> str | None:
    """Returns a name as text, or None if it is empty, too long or has control characters."""
    name = (name or "").strip()
    return name if 0 < len(name) <= LONGEST_NAME and name.isprintable() else None


def _as_utf8(value: str) -> str:
    """Returns a header's value as UTF-8; it arrives as Latin-1, and nearly all proxies send UTF-8."""
    try:
        return value.encode("latin1").decode("utf8")
    except UnicodeDecodeError:
        return value


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise HardlookError(
            f"trusted proxy {text!r} is not an address; write an address such as 10.0.0.5 or 10.0.0.0/24"
        ) from error


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None


def _host_name(header: str | None) -> str | None:
    """Returns the name in a Host header, without the port.

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
