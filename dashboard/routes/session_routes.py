"""What a session asks for besides pictures and decisions.

POST /hardlook/dossiers?run=   {ids} → {example_id: scores with percentiles, neighbours, metadata, history}
GET  /hardlook/class?name=     guidelines, gold and typical examples of a class
GET  /hardlook/alike?id=&run=  look-alike suspects, as cells
GET  /hardlook/deep?id=        the original's values at its own depth, for window and level
POST /hardlook/hold            {ids} → {example_id: who looks at it now}; takes what is free for some minutes
GET  /hardlook/sitting         the reviewer's sitting as the log has it: decided, active seconds
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pandas as pd
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dashboard.auth.serving import serving
from dashboard.presenters import class_reference, deep_pixels, example_details, lookalikes, session_facts
from dashboard.queries import database
from dashboard.queries.decisions import open_log
from dashboard.review_session import shared_queue
from dashboard.routes.http import FOREVER, SAFE, json_reply, missing, posted_ids, refusal, run_of
from scoring.audit.errors import HardlookError
from scoring.reviews import LogUnavailable
from scoring.reviews.sessions import ReviewSession, review_session

MOST = 24


def routes() -> list[Route]:
    """The routes above."""
    return [
        Route("/hardlook/dossiers", dossiers_of, methods=["POST"]),
        Route("/hardlook/class", class_of),
        Route("/hardlook/alike", alike_to),
        Route("/hardlook/deep", deep),
        Route("/hardlook/hold", hold, methods=["POST"]),
        Route("/hardlook/sitting", sitting_now),
    ]


async def dossiers_of(request: Request) -> Response:
    """Everything beside the picture, of the examples that come next."""
    ids, run = await posted_ids(request), run_of(request)
    if ids is None or len(ids) > MOST:
        return PlainTextResponse(f"needed {{ids: [at most {MOST} example_ids]}}", status_code=400)
    return await run_in_threadpool(_told, lambda: session_facts.dossiers(database.open_audit(), run, ids))


def class_of(request: Request) -> Response:
    """What a class means here."""
    audit, name = database.open_audit(), request.query_params.get("name", "")
    if name not in audit.classes:
        return missing("There is no such class.")
    return _told(lambda: class_reference.describe_class(audit, run_of(request), name))


def alike_to(request: Request) -> Response:
    """Look-alike suspects."""
    audit, example_id = database.open_audit(), request.query_params.get("id", "")
    if example_details.find(audit, example_id) is None:
        return missing("There is no such example.")
    return _told(lambda: lookalikes.alike(audit, run_of(request), example_id))


def deep(request: Request) -> Response:
    """Values of 16 bits and more; 404 where the browser's own eight bits are all there is."""
    audit = database.open_audit()
    row = example_details.find(audit, request.query_params.get("id", ""))
    values = None if row is None else deep_pixels.values_of(audit, row)
    if values is None:
        return missing("This original has no more than eight bits.")
    caching = FOREVER if request.query_params.get("v") else "no-cache"
    headers = {**SAFE, **values.headers, "cache-control": caching, "content-encoding": "gzip"}
    body = gzip.compress(values.content(), compresslevel=1)
    return Response(body, media_type="application/octet-stream", headers=headers)


async def hold(request: Request) -> Response:
    """Keep others off what somebody is about to look at; whoever may decide may do so."""
    if reason := refusal(request):
        return PlainTextResponse(reason, status_code=403)
    ids = await posted_ids(request)
    if ids is None or len(ids) > MOST:
        return PlainTextResponse(f"needed {{ids: [at most {MOST} example_ids]}}", status_code=400)
    return await run_in_threadpool(_told, lambda: _hold(ids))


def _hold(ids: list[str]) -> dict[str, str]:
    audit = database.open_audit()
    return shared_queue.hold(audit, list(database.details(audit, None, ids)["split"].dropna().index))


def sitting_now(_request: Request) -> Response:
    """How long and how fast the reviewer has been deciding, from the log alone."""
    reviewer = serving().identity.reviewer
    return _told(lambda: asdict(_sitting(reviewer)))


def _sitting(reviewer: str | None) -> ReviewSession:
    decided = open_log(database.open_audit()).decisions()
    return review_session(decided[decided["reviewer"] == reviewer], pd.Timestamp.now(tz="UTC"))


def _told(what: Callable[[], Any]) -> Response:
    try:
        return json_reply(what())
    except (LogUnavailable, HardlookError) as error:
        return PlainTextResponse(str(error), status_code=503)
