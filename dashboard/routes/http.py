"""What all routes share: reading a request's body, ids and run; replies; image addresses."""

from __future__ import annotations

import json
import math
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from dashboard.auth.identity import decision_refusal
from dashboard.auth.serving import serving
from dashboard.queries import database
from scoring.audit import Run

FOREVER = "private, max-age=31536000, immutable"
SAFE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "same-origin",
}
MOST_BYTES = 4_000_000
MOST_IDS = 2_000
MOST_DIGITS = 4_000


def picture_url(what: str, example_id: str, fingerprint: str | None) -> str:
    """Returns the address of a thumbnail, image or map.

    >>> picture_url("thumb", "a/b c.png", "f00")
    '/hardlook/thumb?id=a%2Fb+c.png&v=f00'
    """
    return f"/hardlook/{what}?{urlencode({'id': example_id, **({'v': fingerprint} if fingerprint else {})})}"


def run_of(request: Request) -> Run | None:
    """Returns the run that the request names, else the audit's first, else None."""
    return run_named(request.query_params.get("run"))


def run_named(name: str | None) -> Run | None:
    """Returns the run of that name, the audit's first if no name is given, else None."""
    audit = database.open_audit()
    names = audit.run_names()
    return audit.run(name or None) if (name in names if name else names) else None


def refusal(request: Request, needed: str = "auditor") -> str | None:
    """Returns why the sender of this request may not write to the log, or None; ``needed``: the required role."""
    peer = request.client.host if request.client else None
    return decision_refusal(serving().identity, request.headers, peer, serving().access.url, needed)


async def posted_ids(request: Request) -> list[str] | None:
    """Returns the posted example_ids; None for any other body."""
    return sound_ids(await read_body(request))


def sound_ids(body: dict[str, Any] | None) -> list[str] | None:
    """Returns the example_ids of a body; None if there are none, too many, or other values."""
    ids = body.get("ids") if body else None
    sound = isinstance(ids, list) and len(ids) <= MOST_IDS and all(isinstance(one, str) for one in ids)
    return ids if sound else None


def no_ids() -> Response:
    """Returns the reply to a request without valid ids."""
    return PlainTextResponse(f"needed {{ids: [at most {MOST_IDS} example_ids]}}", status_code=400)


async def read_body(request: Request) -> dict[str, Any] | None:
    """Returns the posted JSON object; None for anything else. A body that is too large is not read to its end."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            return None
        parts.append(part)
    try:
        body = json.loads(b"".join(parts), parse_int=_whole)
    except (ValueError, RecursionError):  # nested too deeply
        return None
    return body if isinstance(body, dict) else None


def _whole(digits: str) -> int | float:
    """Returns a whole number; one longer than Python reads as a number that no field takes, so that it spoils nothing
    else in its body."""
    return int(digits) if len(digits) <= MOST_DIGITS else math.inf


def json_reply(value: Any) -> Response:
    """Returns plain data as a JSON reply that the browser does not cache. Text that UTF-8 lacks is escaped, as JSON
    can."""
    headers = {**SAFE, "cache-control": "no-store"}
    try:
        return JSONResponse(value, headers=headers)
    except UnicodeEncodeError:  # a lone surrogate, which came in as an escape
        return Response(json.dumps(value, allow_nan=False), media_type="application/json", headers=headers)


def missing(reason: str) -> Response:
    """Returns 404 with its reason."""
    return PlainTextResponse(reason, status_code=404, headers={"cache-control": "no-store"})
