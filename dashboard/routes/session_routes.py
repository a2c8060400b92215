"""The routes of a session, besides images and decisions.

POST /hardlook/dossiers?run=   {ids} → {example_id: scores with percentiles, neighbours, metadata, history}
GET  /hardlook/class?name=     guidelines, gold and typical examples of a class
GET  /hardlook/alike?id=&run=  look-alike suspects, as cells
GET  /hardlook/deep?id=        the original's values at full depth, for window and level
POST /hardlook/hold            {ids} → {example_id: who has locked it, null if it is not to review any more}; locks free
                               examples for some minutes
GET  /hardlook/sitting         the reviewer's current session from the log: decided, active seconds
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


def session_routes() -> list[Route]:
    """Returns the routes above."""
    return [
        Route("/hardlook/dossiers", facts_of, methods=["POST"]),
        Route("/hardlook/class", class_of),
        Route("/hardlook/alike", lookalikes_of),
        Route("/hardlook/deep", deep),
        Route("/hardlook/hold", hold, methods=["POST"]),
        Route("/hardlook/sitting", session_stats),
    ]


async def facts_of(request: Request) -> Response:
    """Returns the facts beside the image, for the next examples."""
    ids, run = await posted_ids(request), run_of(request)
    if ids is None or len(ids) > MOST:
        return PlainTextResponse(f"needed {{ids: [at most {MOST} example_ids]}}", status_code=400)
    return await run_in_threadpool(_reply, lambda: session_facts.session_facts(database.open_audit(), run, ids))


def class_of(request: Request) -> Response:
    """Returns the reference of a class."""
    audit, name = database.open_audit(), request.query_params.get("name", "")
    if name not in audit.classes:
        return missing("There is no such class.")
    return _reply(lambda: class_reference.describe_class(audit, run_of(request), name))


def lookalikes_of(request: Request) -> Response:
    """Returns look-alike suspects."""
    audit, example_id = database.open_audit(), request.query_params.get("id", "")
    if example_details.find(audit, example_id) is None:
        return missing("There is no such example.")
    return _reply(lambda: lookalikes.find_lookalikes(audit, run_of(request), example_id))


def deep(request: Request) -> Response:
    """Returns pixel values of 16 bits and more; 404 for an eight-bit original."""
    audit = database.open_audit()
    row = example_details.find(audit, request.query_params.get("id", ""))
    values = None if row is None else deep_pixels.values_of(audit, row)
    if values is None:
        return missing("This original has only eight bits per channel.")
    caching = FOREVER if request.query_params.get("v") else "no-cache"
    headers = {**SAFE, **values.headers, "cache-control": caching, "content-encoding": "gzip"}
    body = gzip.compress(values.content(), compresslevel=1)
    return Response(body, media_type="application/octet-stream", headers=headers)


async def hold(request: Request) -> Response:
    """Locks the examples that the reviewer will see next, and says which of them are not to review any more."""
    if reason := refusal(request):
        return PlainTextResponse(reason, status_code=403)
    ids = await posted_ids(request)
    if ids is None or len(ids) > MOST:
        return PlainTextResponse(f"needed {{ids: [at most {MOST} example_ids]}}", status_code=400)
    return await run_in_threadpool(_reply, lambda: _hold(ids))


def _hold(ids: list[str]) -> dict[str, str | None]:
    audit = database.open_audit()
    return shared_queue.hold(audit, list(database.details(audit, None, ids)["split"].dropna().index))


def session_stats(_request: Request) -> Response:
    """Returns the duration and speed of the reviewer's session, from the log alone."""
    reviewer = serving().identity.reviewer
    return _reply(lambda: asdict(_session_stats(reviewer)))


def _session_stats(reviewer: str | None) -> ReviewSession:
    decided = open_log(database.open_audit()).decisions()
    return review_session(decided[decided["reviewer"] == reviewer], pd.Timestamp.now(tz="UTC"))


def _reply(what: Callable[[], Any]) -> Response:
    try:
        return json_reply(what())
    except (LogUnavailable, HardlookError) as error:
        return PlainTextResponse(str(error), status_code=503)
