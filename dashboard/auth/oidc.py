"""The person named in Streamlit's signed login cookie, for requests that Streamlit itself does not answer.

``st.login`` ends with a cookie ``_streamlit_user`` (in pieces if it is long), signed with the ``cookie_secret`` of
``[auth]`` in secrets.toml. Streamlit checks it for pages. For images and events it is checked here, by the same
functions, with the same secret and lifetime.

Inputs → outputs: a Cookie header → the claim that names the person, or None. Cost: one HMAC per request. Limit: a copy
of the cookie stays valid after signing out until it expires (30 days), as everywhere in Streamlit.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from scoring.audit.errors import HardlookError

COOKIE = "_streamlit_user"
SHORTEST_SECRET = 32


def secrets_file(audit: Path) -> Path:
    """Returns the path of the audit's own secrets.toml. Another one may belong to another app and does not enable
    signing in."""
    return audit / ".streamlit" / "secrets.toml"


def login_settings(file: Path) -> dict[str, Any] | None:
    """Returns ``[auth]`` of secrets.toml, checked; None if signing in is not configured."""
    try:
        found = tomllib.loads(file.read_text(encoding="utf8")).get("auth")
    except OSError:
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HardlookError(f"{file} is not valid TOML: {error}") from error
    if found is None:
        return None
    if not str(found.get("redirect_uri", "")).endswith("/oauth2callback"):
        raise HardlookError(
            f"secrets.toml: [auth] redirect_uri = {found.get('redirect_uri')!r}; use this server's address as "
            "browsers see it, ending in /oauth2callback"
        )
    if len(str(found.get("cookie_secret", ""))) < SHORTEST_SECRET:
        raise HardlookError(
            f"secrets.toml: [auth] cookie_secret has less than {SHORTEST_SECRET} characters, so a login could be "
            "forged; create a random one: python -c 'import secrets; print(secrets.token_hex(32))'"
        )
    from streamlit.auth_util import is_authlib_installed

    if not is_authlib_installed():
        raise HardlookError("signing in needs Authlib, which is not installed; run pip install 'hardlook[oidc]'")
    return dict(found)


def signed_in_as(cookie_header: str | None, claim: str) -> str | None:
    """Returns the claim of the signed-in person, or None for no cookie, a forged or expired one, or another
    server's."""
    if not cookie_header or COOKIE not in cookie_header:
        return None
    from starlette.requests import cookie_parser
    from streamlit.auth_util import get_cookie_with_chunks, get_origin_from_redirect_uri
    from streamlit.web.server.server_util import get_cookie_secret
    from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value

    cookies = cookie_parser(cookie_header)

    def part(name: str) -> bytes | None:
        signed = cookies.get(name)
        return None if signed is None else decode_signed_value(get_cookie_secret(), name, signed.encode("latin1"))

    try:
        user = json.loads(get_cookie_with_chunks(part, COOKIE) or b"null")
    except ValueError:
        return None
    if not isinstance(user, dict) or not user.get("is_logged_in"):
        return None
    if user.get("origin") != get_origin_from_redirect_uri():
        return None
    if claim == "email" and user.get("email_verified") is False:  # an unverified address may belong to somebody else
        return None
    found = user.get(claim)
    return found if isinstance(found, str) else None
