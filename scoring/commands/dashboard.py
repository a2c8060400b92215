"""``hardlook dashboard``: open the audit in the browser."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import TYPE_CHECKING

from scoring.commands.console import add_command, audit_argument

if TYPE_CHECKING:
    from scoring.commands.console import Commands


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(commands, "dashboard", dashboard, "Open the audit in the browser.")
    audit_argument(command, run=False)
    command.add_argument("--host", default="127.0.0.1", help="the network address to listen on (default: %(default)s)")
    command.add_argument("--port", type=int, default=8501, help="the port (default: %(default)s)")
    command.add_argument("--log", metavar="URL", help="the review log (default: reviews.sqlite in the audit)")
    command.add_argument(
        "--trust-proxy",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="trust the user names that this reverse proxy sends; may be given several times",
    )
    command.add_argument(
        "--user-header", metavar="NAME", help="the header that holds the user name (default: X-Forwarded-User)"
    )
    command.add_argument(
        "--public-url", metavar="URL", help="the server's address as browsers reach it through a proxy"
    )


def dashboard(options: argparse.Namespace) -> int:
    """Serve the audit in the browser."""
    from dashboard.server import serve

    serve(
        options.audit,
        host=options.host,
        port=options.port,
        log=options.log,
        proxies=tuple(options.trust_proxy),
        user_header=options.user_header,
        url=options.public_url,
    )
    return 0
