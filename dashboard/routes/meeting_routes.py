"""The routes of a meeting: its current state for browsers that follow it, and the acts of its lead.

    GET  /hardlook/meeting?known=…   the open meeting's item with the answers given; {same: true} if nothing changed
    POST /hardlook/meeting           {audit, act: go | move | hands | record | present, …}: an act → the new state

Everybody who may see images can follow; only a lead can act, which is checked here. Whoever follows is present from
the first poll on, beside the names that the lead enters; a name that the lead takes out stays out. An answer that waits
for a second reader is not shown before the second answer.

Cost: a poll without news is two indexed queries; a follower is written down once per meeting.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dashboard.auth.serving import serving
from dashboard.blinding import model_output, second_reader
from dashboard.presenters import example_content, example_details, precedents
from dashboard.queries import database
from dashboard.queries.decisions import open_log
from dashboard.routes.http import json_reply, picture_url, read_body, refusal
from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.reviews import LogUnavailable, ReviewLog, meeting_minutes, meetings
from scoring.reviews.verdicts import VERDICTS, sentence, verdicts_with_field

MOST_ANSWERS = 9


def meeting_routes() -> list[Route]:
    """Returns the routes above, for the App."""
    return [
        Route("/hardlook/meeting", read_meeting),
        Route("/hardlook/meeting", post_act, methods=["POST"]),
    ]


def read_meeting(request: Request) -> Response:
    """Returns the open meeting for a follower."""
    try:
        _note_presence(serving().identity.reviewer)
        return json_reply(meeting_state(request.query_params.get("known", "")))
    except HardlookError as error:
        return PlainTextResponse(str(error), status_code=503)


def _note_presence(reviewer: str | None) -> None:
    """Writes a follower down as present, once per meeting."""
    if reviewer is None:
        return
    log = open_log(database.open_audit())
    meeting = meetings.current(log)
    if meeting is not None:
        _join(serving().log_url, meeting["number"], reviewer)


@lru_cache(maxsize=4096)
def _join(_url: str, number: int, reviewer: str) -> None:
    meetings.join(open_log(database.open_audit()), number, reviewer)


async def post_act(request: Request) -> Response:
    """Performs an act of the lead and returns the new state."""
    if reason := refusal(request, needed="lead"):
        return PlainTextResponse(reason, status_code=403)
    body = await read_body(request)
    if body is None or not isinstance(body.get("at", 0), int):
        return PlainTextResponse("needed {audit, act, at, …} as JSON", status_code=400)
    if body.get("audit") != serving().token:
        return PlainTextResponse("This page belongs to another audit or log; reload it.", status_code=409)
    return await run_in_threadpool(_act, body)


def _act(body: dict[str, Any]) -> Response:
    audit = database.open_audit()
    log = open_log(audit)
    try:
        if body.get("act") == "go":
            meetings.go_to(log, body["at"])
        elif body.get("act") == "move":
            meetings.move(log, int(body["by"]))
        elif body.get("act") == "hands":
            meetings.count_votes(log, body["at"], str(body.get("answer", "")), int(body["by"]))
        elif body.get("act") == "present":
            meetings.be_present(log, [str(name) for name in body.get("names", ())])
        elif body.get("act") == "record":
            _record(audit, log, serving().identity.name(), body)
        else:
            return PlainTextResponse(
                f"unknown act {str(body.get('act'))[:50]!r}; known: go, move, hands, present, record", status_code=400
            )
        return json_reply(meeting_state(""))
    except LogUnavailable as error:
        return PlainTextResponse(str(error), status_code=503)
    except (HardlookError, TypeError, ValueError, KeyError, OverflowError) as error:
        return PlainTextResponse(str(error), status_code=400)


def _record(audit: Audit, log: ReviewLog, lead: str, body: dict[str, Any]) -> None:
    open_one = meetings.current(log)
    if open_one is None or not 0 <= body["at"] < len(open_one["items"]):
        raise HardlookError("this item is not on the agenda of an open meeting; reload the page")
    if audit.classes:
        for name in (body.get("new_label"), *(body.get("labels") or ())):
            if name is not None and name not in audit.classes:
                raise HardlookError(f"{str(name)[:100]!r} is not a class of this audit")
    row = example_details.find(audit, open_one["items"][body["at"]]["example_id"]) or {}
    meetings.record(log, lead, body, {"label": row.get("label"), "fingerprint": row.get("fingerprint")})


def meeting_state(known: str) -> dict[str, Any]:
    """Returns the meeting as the browser shows it."""
    audit = database.open_audit()
    log = open_log(audit)
    meeting = meetings.latest(log)
    if meeting is None or meeting["ended"] is not None:
        mark = f"closed {0 if meeting is None else meeting['number']}"
        number = None if meeting is None else meeting["number"]
        return {"same": True} if known == mark else {"open": False, "number": number, "known": mark}
    mark = f"{meeting['number']} {meeting['version']} {log.position()}"
    if known == mark:
        return {"same": True}
    return {
        "open": True,
        "known": mark,
        "number": meeting["number"],
        "version": meeting["version"],
        "at": meeting["at"],
        "of": len(meeting["items"]),
        "lead": meeting["lead"],
        "present": meeting["present"],
        "item": item_state(audit, log, meeting),
    }


def item_state(audit: Audit, log: ReviewLog, meeting: dict[str, Any]) -> dict[str, Any]:
    """Returns the current item: images, answers with their reasons, the options of the vote, the tally."""
    at = meeting["at"]
    item = meeting["items"][at]
    example_id = item["example_id"]
    row = example_details.find(audit, example_id) or {}
    decisions = log.decisions()
    waits = second_reader.hidden_from(audit, serving().identity.reviewer, among=[example_id])
    answers = [] if waits else list(decisions[decisions["example_id"] == example_id].itertuples())
    ruled = log.consensus()
    ruled = ruled[(ruled["example_id"] == example_id) & (ruled["status"] == "adjudicated")]
    recorded = str(at) in meeting["recorded"]
    outcome = meeting_minutes.answer_text(next(ruled.itertuples())) if len(ruled) else "noted" if recorded else None
    return {
        **{name: item[name] for name in ("kind", "title", "why", "example_id")},
        "label": row.get("label"),
        "examples": [_example(audit, one) for one in item["examples"]],
        "said": [{"reviewer": one.reviewer, "answer": meeting_minutes.answer_text(one)} for one in answers]
        or [{"reviewer": name, "answer": second_reader.HIDDEN_ANSWER} for name in waits.values()],
        "answers": _answers(audit, row, answers),
        "tally": meeting["tally"].get(str(at), {}),
        "outcome": outcome,
        "precedents": precedents.near(audit, _run(audit), [example_id]).get(example_id, []),
    }


def _example(audit: Audit, example_id: str) -> dict[str, Any]:
    row = example_details.find(audit, example_id) or {}
    image = picture_url("image", example_id, row.get("fingerprint"))
    return {"id": example_id, "label": row.get("label"), "image": image, "text": _text(audit, example_id, row)}


def _text(audit: Audit, example_id: str, row: dict[str, Any]) -> str | None:
    """Returns the text shown instead of an image."""
    if audit.media == "image":
        return row.get("problem") if row.get("problem") else None
    shown = example_content.cell_contents(audit, [example_id], [row.get("label")])[0]
    if shown.get("text") is not None:
        text = shown["text"]
        return text if isinstance(text, str) else "".join(str(one) for one in text)
    return "\n".join(f"{one.get('name')}: {one.get('value')}" for one in shown.get("rows", ()))


def _run(audit: Audit) -> Run | None:
    return audit.run(None) if audit.run_names() else None


def _answers(audit: Audit, row: dict[str, Any], answers: list[Any]) -> list[dict[str, Any]]:
    """Returns the options of the vote: the given label, every answer given, and the verdicts without a class (none,
    unsure)."""
    found: list[dict[str, Any]] = []
    label = row.get("label")

    def add(verdict: str, new_label: str | None = None, labels: Sequence[str] = ()) -> None:
        text = sentence(verdict, label, new_label, labels)[:200]
        if text not in [one["text"] for one in found]:
            found.append({"text": text, "verdict": verdict, "new_label": new_label, "labels": list(labels)})

    if label is not None:
        add("given")
    for one in answers:
        if one.verdict in verdicts_with_field("new_label") and one.new_label != label:
            add(one.verdict, one.new_label)
        elif one.verdict in verdicts_with_field("labels"):
            add(one.verdict, None, one.labels)
    run = _run(audit)
    if run is not None and row and not model_output.hidden_reasons(audit, [row["example_id"]]):
        guess = database.suggestions(audit, run, database.details(audit, run, [row["example_id"]])["label"])
        for name in guess["suggested_label"].dropna():
            add("other", name)
    for verdict, kind in VERDICTS.items():
        if kind.true is None:
            add(verdict)
    return found[:MOST_ANSWERS]
