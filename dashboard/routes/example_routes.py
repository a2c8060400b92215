"""The routes besides pages: images, maps, facts about one example, and the events of the log.

    GET  /hardlook/thumb?id=&v=      an image of at most 256 pixels; v, the fingerprint, lets browsers cache it for ever
    POST /hardlook/thumbs            {ids} → a page of them in one answer, as data addresses
    GET  /hardlook/image?id=&v=      the original, in a format that a browser can show
    GET  /hardlook/map?id=&run=      the VoG map as an overlay
    GET  /hardlook/example?id=&run=  scores with percentiles, probabilities, metadata, history
    POST /hardlook/influence?run=    {ids} → their strongest opponents and proponents, as cells
    GET  /hardlook/decisions?after=  the status of the examples that changed after a position of the log
    POST /hardlook/decisions         {ids} → the status of these examples
    POST /hardlook/events            {audit, events} → which are saved, which are refused and why
    GET  /hardlook/last-act?but=     the act that an undo takes back, unless this client made it and knows it
    GET  /hardlook/grid/…            the grid's scripts
    GET  /hardlook/cut, POST         a decision plane (``dashboard.routes.decision_plane``)

Ids are in the query, because they may hold slashes, dots and anything else. Foreign hosts and pages are refused before
(``dashboard.auth.identity.Gate``); the right to write is checked here, at the event. Cost: a thumbnail is one binary
search in a memory-mapped file, an event one flush to the disk.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from dashboard.auth.serving import serving
from dashboard.blinding import hidden_controls, model_output, second_reader
from dashboard.presenters import example_details, influences
from dashboard.queries import database, vog_maps
from dashboard.queries.decisions import open_log
from dashboard.queries.live_status import LiveStatus, undo_preview
from dashboard.routes import component_scripts, decision_plane, session_routes
from dashboard.routes.http import (
    FOREVER,
    SAFE,
    json_reply,
    missing,
    no_ids,
    posted_ids,
    read_body,
    refusal,
    run_of,
    sound_ids,
)
from dashboard.routes.meeting_routes import meeting_routes
from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import BlobStore
from scoring.data.images import browser_picture
from scoring.reviews import LogUnavailable
from scoring.reviews.event import Event

ACTS = ("decide", "flag", "unflag", "comment", "undo")
FIELDS = (
    "client",
    "seq",
    "example_id",
    "action",
    "fingerprint",
    "label",
    "verdict",
    "new_label",
    "labels",
    "issues",
    "note",
    "batch",
    "undoes",
    "evidence",
    "seconds",
)
KINDS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp", b"GIF8": "image/gif"}

log = logging.getLogger(__name__)


def all_routes() -> list[Route]:
    """Returns the routes above, for the App."""
    found = [
        Route("/hardlook/thumb", thumb),
        Route("/hardlook/thumbs", thumbs, methods=["POST"]),
        Route("/hardlook/image", image),
        Route("/hardlook/map", vog_map),
        Route("/hardlook/example", example),
        Route("/hardlook/influence", influence, methods=["POST"]),
        Route("/hardlook/decisions", decisions),
        Route("/hardlook/decisions", decisions_of, methods=["POST"]),
        Route("/hardlook/events", events, methods=["POST"]),
        Route("/hardlook/last-act", last_act),
        *meeting_routes(),
        Route("/hardlook/grid/{version}/{name}", component_scripts.script),
        *decision_plane.plane_routes(),
        *session_routes.session_routes(),
    ]
    for route in found:
        route.app = _with_error_reply(route.app)
    return found


def _with_error_reply(app: ASGIApp) -> ASGIApp:
    """Returns the route wrapped so that a ``HardlookError``, such as a damaged file, becomes a reply with its
    message."""

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except HardlookError as error:
            await PlainTextResponse(str(error), status_code=503)(scope, receive, send)

    return answering


# -- pictures --------------------------------------------------------------------------------------------------------


async def thumb(request: Request) -> Response:
    """Returns a thumbnail. It runs on the event loop, because a look-up takes microseconds and a thread longer."""
    data = _thumbnails(database.open_audit().root).get(request.query_params.get("id", ""))
    return missing("There is no thumbnail of this example.") if data is None else _picture(request, data)


async def thumbs(request: Request) -> Response:
    """Returns {id: data address} of the examples that have a thumbnail, or {id: [fingerprint, data address]} for
    ``named``, for callers that know only ids. One reply replaces a hundred requests, which take a second."""
    body = await read_body(request)
    ids = sound_ids(body)
    if ids is None:
        return no_ids()
    store = _thumbnails(database.open_audit().root)
    found = ((one, store.get(one)) for one in ids)
    shown = {one: _data_address(data) for one, data in found if data is not None and _kind(data)}
    if not (body or {}).get("named"):
        return json_reply(shown)
    named = await run_in_threadpool(_fingerprints, list(shown))
    return json_reply({one: [named[one], shown[one]] for one in shown if one in named})


def _fingerprints(ids: list[str]) -> dict[str, str | None]:
    table = database.rows(database.open_audit().examples_path, ids, ["fingerprint"])
    return dict(zip(table["example_id"].to_pylist(), table["fingerprint"].to_pylist(), strict=True))


def _data_address(data: bytes) -> str:
    return f"data:{_kind(data)};base64,{base64.b64encode(data).decode()}"


@lru_cache(maxsize=2)
def _thumbnails(root: Path) -> BlobStore:
    return database.audit_at(root).thumbnails


@lru_cache(maxsize=2)
def _originals(root: Path) -> BlobStore:
    return database.audit_at(root).originals


def image(request: Request) -> Response:
    """Returns the original if it is a file or was stored; else the thumbnail."""
    audit, example_id = database.open_audit(), request.query_params.get("id", "")
    row = example_details.find(audit, example_id)
    if row is None:
        return missing("There is no such example.")
    if row.get("problem"):
        return missing(row["problem"])
    try:
        data, kind = browser_picture(_original(audit, row))
    except (HardlookError, OSError):
        small = _thumbnails(audit.root).get(example_id)
        return missing("The original cannot be read.") if small is None else _picture(request, small)
    return _picture(request, data, kind)


def _original(audit: Audit, row: Mapping[str, Any]) -> bytes:
    if row.get("reference"):
        return audit.path(row["reference"]).read_bytes()
    data = _originals(audit.root).get(row["example_id"])
    if data is None:
        raise HardlookError("the original file is gone and ingest kept no copy of it")
    return data


def vog_map(request: Request) -> Response:
    """Returns the VoG map as PNG, transparent where it is weak."""
    run, example_id = run_of(request), request.query_params.get("id", "")
    if reason := model_output.refusal(database.open_audit(), [example_id]):
        return missing(reason)
    data = None if run is None else vog_maps.overlay(run.maps.get(example_id))
    if data is None:
        return missing("No VoG map is kept for this example.")
    return Response(data, media_type="image/png", headers={**SAFE, "cache-control": "no-cache"})


def _picture(request: Request, data: bytes, kind: str | None = None) -> Response:
    kind = kind or _kind(data)
    if kind is None:
        return missing("A browser cannot show this image format.")
    caching = FOREVER if request.query_params.get("v") else "no-cache"
    return Response(data, media_type=kind, headers={**SAFE, "cache-control": caching})


def _kind(data: bytes) -> str | None:
    return next((kind for head, kind in KINDS.items() if data.startswith(head)), None)


# -- facts -----------------------------------------------------------------------------------------------------------


def example(request: Request) -> Response:
    """Returns everything about one example, for the opened example."""
    try:
        found = example_details.describe(database.open_audit(), run_of(request), request.query_params.get("id", ""))
    except HardlookError as error:
        return PlainTextResponse(str(error), status_code=503)
    return missing("There is no such example.") if found is None else json_reply(found)


async def influence(request: Request) -> Response:
    """Returns opponents and proponents of one example or of a selection."""
    ids, run = await posted_ids(request), run_of(request)
    if ids is None:
        return no_ids()
    try:
        return json_reply(await run_in_threadpool(influences.influence_json, database.open_audit(), run, ids))
    except HardlookError as error:
        return PlainTextResponse(str(error), status_code=503)


def decisions(request: Request) -> Response:
    """Returns what changed since a position of the log."""
    try:
        after = int(request.query_params.get("after", ""))
    except ValueError:
        return PlainTextResponse("after= needs a position of the log", status_code=400)
    return _answer(lambda: _for_visitor(live_status().changed(after)))


async def decisions_of(request: Request) -> Response:
    """Returns the status of some examples."""
    ids = await posted_ids(request)
    if ids is None:
        return no_ids()
    return await run_in_threadpool(_answer, lambda: _for_visitor(live_status().of(ids)))


def _for_visitor(answer: dict[str, Any]) -> dict[str, Any]:
    """Returns the status of examples without answers that are hidden from the visitor."""
    return second_reader.visible_status(database.open_audit(), answer, serving().identity.reviewer)


def last_act(request: Request) -> Response:
    """Returns {act: {client, seq, example_id, fingerprint, label, before, opens}}, or {act: null}."""
    reviewer = serving().identity.reviewer
    own = request.query_params.get("but")
    return _answer(lambda: {"act": None if reviewer is None else _last_act(reviewer, own)})


def _last_act(reviewer: str, own: str | None) -> dict[str, Any] | None:
    review_log = open_log(database.open_audit())
    act = review_log.last_act(reviewer, but=own)
    if act is None:
        return None
    fields = {name: act[name] for name in ("client", "seq", "example_id", "fingerprint", "label")}
    return fields | undo_preview(review_log, act, reviewer)


def _answer(what: Callable[[], Any]) -> Response:
    """Returns the result as a reply, or 503 if the log cannot be read now."""
    try:
        return json_reply(what())
    except LogUnavailable as error:
        return PlainTextResponse(str(error), status_code=503)


def live_status() -> LiveStatus:
    """Returns the status of the served audit's examples; one object for all requests."""
    return _live_status(serving().log_url, database.open_audit().name)


@cache
def _live_status(_url: str, _name: str) -> LiveStatus:
    return LiveStatus(open_log(database.open_audit()))


# -- events ----------------------------------------------------------------------------------------------------------


async def events(request: Request) -> Response:
    """Appends a reviewer's events and replies when they are on the disk."""
    if reason := refusal(request):
        return PlainTextResponse(reason, status_code=403)
    body = await read_body(request) or {}
    sent = body.get("events")
    if not isinstance(sent, list) or not all(isinstance(one, dict) for one in sent):
        return PlainTextResponse("needed {audit, events: [...]} as JSON", status_code=400)
    if body.get("audit") != serving().token:
        return PlainTextResponse("This page belongs to another audit or log; reload it.", status_code=409)
    return await run_in_threadpool(_answer, lambda: append(sent))


def append(sent: list[dict[str, Any]]) -> dict[str, Any]:
    """Writes the valid events and returns {acked, saved: [{client, seq}], refused: [{client, seq, reason}],
    position}."""
    good, refused = _checked(sent)
    identity = serving().identity
    answer = open_log(database.open_audit()).append_valid(good, one_reviewer=not identity.alone)
    refused += [_refusal(error.client, error.seq, error) for error in answer.refused]
    if refused:
        log.warning("%d of %d events refused, the first: %s", len(refused), len(sent), refused[0])
    left = {(error.client, error.seq) for error in answer.refused}
    saved = [{"client": one.client, "seq": one.seq} for one in good if (one.client, one.seq) not in left]
    position = live_status().now(at_once=True)
    return {"acked": answer.acknowledged, "saved": saved, "refused": refused, "position": position}


def _checked(sent: list[dict[str, Any]]) -> tuple[list[Event], list[dict[str, Any]]]:
    """Returns the valid events under the visitor's name, and the refusals of the others."""
    audit, reviewer = database.open_audit(), serving().identity.name()
    classes, issues = frozenset(audit.classes), audit.issues
    made, refused = [], []
    for one in sent:
        try:
            made.append((_event(one, reviewer, classes, issues), one))
        except (HardlookError, TypeError) as error:
            refused.append(_refusal(one.get("client"), one.get("seq"), error))
    known = _known(audit, {event.example_id for event, _ in made})
    good = []
    for event, one in made:
        try:
            if event.example_id not in known:
                raise HardlookError("this audit has no such example")
            good.append(_with_draw_probability(audit, event))
        except HardlookError as error:
            refused.append(_refusal(one.get("client"), one.get("seq"), error))
    return good, refused


def _event(sent: dict[str, Any], reviewer: str, classes: frozenset[str], issues: list[str]) -> Event:
    """Returns the event that a browser sent; ``HardlookError`` or ``TypeError`` with the reason if it is none."""
    event = Event(**{name: sent[name] for name in FIELDS if name in sent}, reviewer=reviewer)
    if event.action not in ACTS:
        raise HardlookError(f"action {event.action!r} cannot be sent from a grid")
    unknown = [name for name in event.issues if name not in issues]
    if unknown:
        raise HardlookError(f"{unknown[0]!r:.50} is no issue of this audit; it has {', '.join(issues) or 'none'}")
    if classes:
        event.check_classes(classes)
    return event


def _with_draw_probability(audit: Audit, event: Event) -> Event:
    if event.action != "decide":
        return event
    return replace(event, evidence=hidden_controls.with_draw_probability(audit, event.example_id, event.evidence))


def _refusal(client: Any, seq: Any, error: Exception) -> dict[str, Any]:
    """Returns what a browser is told; a client or seq that no browser sends is not repeated, as JSON may lack it."""
    return {
        "client": client if isinstance(client, str) else None,
        "seq": seq if isinstance(seq, int | str) else None,
        "reason": str(error),
    }


def _known(audit: Audit, ids: set[str]) -> set[str]:
    """Returns which of these examples exist."""
    if not audit.examples_path.is_file():
        return set()
    return set(database.rows(audit.examples_path, sorted(ids), [])["example_id"].to_pylist())
