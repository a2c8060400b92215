"""What every route reads from a request, and how it answers: bodies, ids and runs; JSON, refusals, addresses of
pictures."""

from __future__ import annotations

import json
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


def picture_url(what: str, example_id: str, fingerprint: str | None) -> str:
    """The address of a thumb, image or map.

    >>> picture_url("thumb", "a/b c.png", "f00")
    '/hardlook/thumb?id=a%2Fb+c.png&v=f00'
    """
    return f"/hardlook/{what}?{urlencode({'id': example_id, **({'v': fingerprint} if fingerprint else {})})}"


def run_of(request: Request) -> Run | None:
    """The run that the request names, else the audit's first, else None."""
    return run_named(request.query_params.get("run"))


def run_named(name: str | None) -> Run | None:
    """The run of that name, without a name the audit's first, else None."""
    audit = database.open_audit()
    names = audit.run_names()
    return audit.run(name or None) if (name in names if name else names) else None


def refusal(request: Request, needed: str = "auditor") -> str | None:
    """Why whoever sent this may not write to the log, or None; ``needed`` is the role that it asks for."""
    peer = request.client.host if request.client else None
    return decision_refusal(serving().identity, request.headers, peer, serving().access.url, needed)


async def posted_ids(request: Request) -> list[str] | None:
    """The example_ids that were posted; None for anything else."""
    return sound_ids(await read_body(request))


def sound_ids(body: dict[str, Any] | None) -> list[str] | None:
    """The example_ids of a body; None where it holds none, too many, or something else."""
    ids = body.get("ids") if body else None
    sound = isinstance(ids, list) and len(ids) <= MOST_IDS and all(isinstance(one, str) for one in ids)
    return ids if sound else None


def no_ids() -> Response:
    """What is answered where ``posted_ids`` finds none."""
    return PlainTextResponse(f"needed {{ids: [at most {MOST_IDS} example_ids]}}", status_code=400)


async def read_body(request: Request) -> dict[str, Any] | None:
    """The JSON object that was posted; None for anything else. Too large a body is not read to its end."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            return None
        parts.append(part)
    try:
        body = json.loads(b"".join(parts))
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def json_reply(value: Any) -> Response:
    """Plain data, never kept by the browser."""
    return JSONResponse(value, headers={**SAFE, "cache-control": "no-store"})


def missing(reason: str) -> Response:
    """404 with its reason."""
    return PlainTextResponse(reason, status_code=404, headers={"cache-control": "no-store"})
