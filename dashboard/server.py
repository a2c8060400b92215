"""The server: Streamlit's App with hardlook's routes, on one address; nothing is sent anywhere else.

``serve`` is `hardlook dashboard`: it checks the audit, binds the port, prints the address and runs until Ctrl-C.
``build_app`` returns the same App for any ASGI server. Torch is never imported: pages read files that commands wrote.

Cost: ready in about three seconds; some 250 MB with 60,000 examples. Limit: one audit per process.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboard.auth.serving import Serving, serve_this
from scoring.audit.errors import HardlookError

if TYPE_CHECKING:
    import uvicorn
    from streamlit.starlette import App

SCRIPT = Path(__file__).with_name("app.py")
LOOPBACK_NAMES = ["localhost", "127.0.0.1", "::1"]
GRACE = 3  # seconds for open pages to close when the server stops
BUSY = {errno.EADDRINUSE: "another process uses it", errno.EACCES: "this user is not allowed to use it"}


def options(serves: Serving, port: int) -> dict[str, Any]:
    """Returns Streamlit's settings, independent of the user's own configuration: quiet, closed, no watcher, both
    themes."""
    from dashboard.auth.identity import is_loopback
    from dashboard.auth.oidc import secrets_file
    from dashboard.style.colours import theme_options

    local, access = is_loopback(serves.host), serves.access
    named = [access.public_name] if access.public_name else []
    return {
        "browser.gatherUsageStats": False,
        "browser.serverAddress": access.public_name or ("localhost" if local else serves.host),
        "browser.serverPort": port,
        "client.showErrorLinks": False,
        "client.toolbarMode": "minimal",
        "client.disableDataExport": True,  # a note may act as a formula in a spreadsheet; /reviews prevents that
        "client.showErrorDetails": "full" if access.method == "alone" else "type",
        "client.showSidebarNavigation": True,
        "global.developmentMode": False,
        "global.disableWidgetStateDuplicationWarning": True,
        "logger.hideWelcomeMessage": True,
        "runner.magicEnabled": False,
        "runner.postScriptGC": False,  # a full garbage collection takes longer than the page
        "server.address": serves.host,
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.maxMessageSize": 50,
        "server.enableStaticServing": False,
        "server.enableAgentApi": False,
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.corsAllowedOrigins": [access.url] if access.url else [],
        "server.allowedHosts": [*LOOPBACK_NAMES, *named] if local else [],
        "secrets.files": [str(secrets_file(serves.audit_path))],
        **theme_options(),
    }


def build_app(
    audit_path: str | Path,
    log_url: str | None = None,
    host: str = "127.0.0.1",
    *,
    port: int = 8501,
    script: str | Path = SCRIPT,
) -> App:
    """Returns the App of one audit. ``script``: the page to run, for tests of single components."""
    return _app(serve_this(audit_path, log_url, host), port, script)


def _app(serves: Serving, port: int, script: str | Path) -> App:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from streamlit.starlette import App
    from streamlit.web import bootstrap

    from dashboard.auth.identity import Gate
    from dashboard.routes.example_routes import all_routes

    bootstrap.load_config_options(options(serves, port))
    own = all_routes()
    gate = Middleware(Gate, access=lambda: serves.access, own=Starlette(routes=own))
    return App(str(script), routes=own, middleware=[gate])


def serve(
    audit: str | Path,
    host: str = "127.0.0.1",
    port: int = 8501,
    log: str | None = None,
    *,
    script: str | Path = SCRIPT,
    **access: Any,
) -> None:
    """Serves an audit until Ctrl-C. ``access``: proxies, user_header, url, as ``serve_this`` takes them. Raises
    ``HardlookError`` for a bad audit, log or address, or a port in use."""
    from dashboard.queries.decisions import open_log
    from scoring.audit import Audit

    serves = serve_this(audit, log, host, **access)
    open_log(Audit.open(serves.audit_path))  # a log that cannot be opened raises its error before the first page
    with bind(host, port) as bound:
        port = bound.getsockname()[1]
        app = _app(serves, port, script)
        print_address(serves, port)
        with contextlib.suppress(KeyboardInterrupt):
            _server(app, host, port).run(sockets=[bound])
    write_line("stopped; every decision that was shown as saved is in the log")


def _server(app: App, host: str, port: int) -> uvicorn.Server:
    import uvicorn
    from streamlit.runtime.runtime_util import get_max_message_size_bytes

    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE,
        ws_max_size=get_max_message_size_bytes(),
        proxy_headers=False,
        server_header=False,
    )
    return uvicorn.Server(config)


def bind(host: str, port: int) -> socket.socket:
    """Returns a listening socket; port 0 takes any free one. Raises ``HardlookError`` if it cannot listen."""
    if not 0 <= port <= 65535:
        raise HardlookError(f"{port} is not a port; use a number from 1 to 65535, or 0 for any free port")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise HardlookError(
            f"cannot serve on {host!r} port {port}: {error}; choose another address with --host"
        ) from error
    bound = socket.socket(family, kind, proto)
    try:
        if sys.platform != "win32":  # on Windows it would let two servers share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(2048)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        reason = BUSY.get(error.errno or 0, str(error))
        way = (
            "if it is another `hardlook dashboard`, stop it with Ctrl-C, or use any free port with --port 0"
            if error.errno == errno.EADDRINUSE
            else "choose another port with --port"
        )
        raise HardlookError(f"cannot serve on port {port} of {host}: {reason}; {way}") from error
    return bound


def address(host: str, port: int) -> str:
    """Returns the address to open in a browser.

    >>> address("127.0.0.1", 8501), address("::1", 80), address("0.0.0.0", 1)
    ('http://localhost:8501', 'http://[::1]:80', 'http://localhost:1')
    """
    name = {"127.0.0.1": "localhost", "0.0.0.0": "localhost", "::": "localhost"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def print_address(serves: Serving, port: int) -> None:
    """Prints the address, how users are identified, and how to stop."""
    where = serves.access.url or address(serves.host, port)
    write_line(f"\n  hardlook: {serves.audit_path}\n  {where}\n  {_who(serves)}\n  Press Ctrl-C to stop.\n")


def _who(serves: Serving) -> str:
    access = serves.access
    known = {
        "proxy": f"users are named by the proxy {', '.join(access.proxies)} in the header {access.user_header}",
        "oidc": f"users sign in through {(serves.login or {}).get('server_metadata_url', 'OpenID Connect')}",
    }
    if access.method in known:
        leads = "" if access.roles.get("lead") else "; no user is a lead yet: add [roles] to audit.toml"
        return known[access.method] + leads
    identity = access.identify(None)
    return identity.read_only or f"decisions are recorded as {identity.reviewer!r}"


def write_line(text: str) -> None:
    """Writes a line to the terminal."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
