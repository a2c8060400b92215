"""The team's meeting: its current item, its votes, and the outcomes that it records.

A meeting is one row beside the log (table ``hardlook_meetings``): its agenda, the item that all look at, the votes. Its
outcomes are events like any other: an ``adjudicate`` of the lead whose evidence names the meeting, who was present, the
votes, and, where the meeting wanted it so,

- a *precedent*: a text and examples, shown beside later look-alikes;
- a change of classes, ``merge`` or ``split``: which classes become which, exported as a mapping.

Inputs → outputs: acts → the meeting's state, changed under the database's lock. Cost: one small transaction per act,
one indexed read per look. Limits: one open meeting per audit; the outcome of a slice is a comment on its first example.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from scoring.audit.errors import HardlookError
from scoring.reviews import event_store as store
from scoring.reviews.event import Event, EventRefused
from scoring.reviews.event_store import meeting_table as table
from scoring.reviews.log_database import explained, writing
from scoring.reviews.log_file import LogUnavailable
from scoring.reviews.meeting_outcomes import class_change, precedent
from scoring.reviews.review_log import ReviewLog


def start(log: ReviewLog, items: Sequence[Mapping[str, Any]], lead: str, now: datetime | None = None) -> dict[str, Any]:
    """Open a meeting over an agenda. Refused where one is open, or nothing is on the agenda."""
    if not items:
        raise HardlookError(
            "the agenda is empty: there is no dispute, no flagged example and no slice; flag an example first"
        )
    now = now or datetime.now(UTC)
    with explained(log.engine), writing(log.engine) as connection:
        store.lock_appends(connection)
        last = _last(connection, log.one_audit())
        if last is not None and last["ended"] is None:
            raise HardlookError(
                f"a meeting has been open since {last['started'][:16]}, led by {last['lead']}; end it first"
            )
        number = 1 if last is None else last["number"] + 1
        state: dict[str, Any] = {
            "number": number,
            "version": 1,
            "lead": lead,
            "started": now.isoformat(timespec="seconds"),
            "ended": None,
            "at": 0,
            "items": [dict(item) for item in items],
            "tally": {},
            "present": [lead],
            "recorded": {},
        }
        connection.execute(table.insert().values(audit=log.audit, number=number, state=_text(state)))
    return state


def current(log: ReviewLog) -> dict[str, Any] | None:
    """The open meeting, else None."""
    found = latest(log)
    return found if found is not None and found["ended"] is None else None


def latest(log: ReviewLog) -> dict[str, Any] | None:
    """The last meeting, open or not; None before the first."""
    with explained(log.engine), log.engine.connect() as connection:
        return _last(connection, log.one_audit())


def all_meetings(log: ReviewLog) -> list[dict[str, Any]]:
    """Every meeting, the newest first."""
    query = sa.select(table.c.state).where(table.c.audit == log.audit).order_by(table.c.number.desc())
    with explained(log.engine), log.engine.connect() as connection:
        return [json.loads(text) for text in connection.execute(query).scalars()]


def _last(connection: sa.Connection, audit: str) -> dict[str, Any] | None:
    query = sa.select(table.c.state).where(table.c.audit == audit).order_by(table.c.number.desc()).limit(1)
    text = connection.execute(query).scalar()
    return None if text is None else json.loads(text)


def change(log: ReviewLog, act: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Change the open meeting, one at a time → its new state. ``act`` edits the state in place."""
    with explained(log.engine), writing(log.engine) as connection:
        store.lock_appends(connection)
        state = _last(connection, log.one_audit())
        if state is None or state["ended"] is not None:
            raise HardlookError("no meeting is open; a lead starts one on the meeting page")
        act(state)
        state["version"] += 1
        where = (table.c.audit == log.audit) & (table.c.number == state["number"])
        connection.execute(table.update().where(where).values(state=_text(state)))
    return state


def _text(state: Mapping[str, Any]) -> str:
    return json.dumps(state, ensure_ascii=False)


def go_to(log: ReviewLog, at: int) -> dict[str, Any]:
    """Everybody looks at this item, the nearest there is."""
    return change(log, lambda state: state.update(at=max(0, min(at, len(state["items"]) - 1))))


def move(log: ReviewLog, by: int) -> dict[str, Any]:
    """Everybody looks at the item so many places on; two quick presses move two places."""
    return change(log, lambda state: state.update(at=max(0, min(state["at"] + by, len(state["items"]) - 1))))


def count_votes(log: ReviewLog, at: int, answer: str, by: int) -> dict[str, Any]:
    """Changes the votes for an answer to an item by ``by``, never below zero."""

    def act(state: dict[str, Any]) -> None:
        if not 0 <= at < len(state["items"]) or not -1000 <= by <= 1000:
            raise HardlookError(f"{by} votes cannot be counted for item {at + 1} of {len(state['items'])}")
        counted = state["tally"].setdefault(str(at), {})
        counted[answer[:200]] = max(0, counted.get(answer[:200], 0) + by)
        state["tally"][str(at)] = {name: n for name, n in counted.items() if n}

    return change(log, act)


def be_present(log: ReviewLog, names: Iterable[str]) -> dict[str, Any]:
    """Returns who is there, as the lead has it."""
    clean = [name.strip()[:200] for name in names if name.strip() and "\0" not in name][:200]
    return change(log, lambda state: state.update(present=list(dict.fromkeys(clean))))


def join(log: ReviewLog, number: int, name: str) -> None:
    """Writes down that a person follows the meeting of that number; nothing if it is over or the person is noted."""
    meeting = current(log)
    if meeting is None or meeting["number"] != number or name in meeting["present"]:
        return

    def act(state: dict[str, Any]) -> None:
        if state["number"] == number and name not in state["present"]:
            state["present"].append(name)

    try:
        change(log, act)
    except LogUnavailable:
        raise
    except HardlookError:  # it ended meanwhile
        return


def end(log: ReviewLog, now: datetime | None = None) -> dict[str, Any]:
    """Close the meeting."""
    now = now or datetime.now(UTC)
    return change(log, lambda state: state.update(ended=now.isoformat(timespec="seconds")))


def record(log: ReviewLog, lead: str, outcome: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """Write what the meeting decided about the item it looks at, as the lead's event → the meeting's state.

    outcome: at; verdict with new_label or labels, issues; note; precedent (a text), look_alikes (more example_ids);
    classes {kind, from, to}. about: label and fingerprint of the example as it is now. A slice without a verdict gets a
    comment. Raises ``EventRefused`` with the reason.
    """
    state = current(log)
    if state is None:
        raise HardlookError("no meeting is open; a lead starts one on the meeting page")
    at = outcome.get("at", state["at"])
    if not isinstance(at, int) or not 0 <= at < len(state["items"]):
        raise HardlookError(f"item {at!r} is not on the agenda of {len(state['items'])}")
    item, client = state["items"][at], f"meeting {state['number']}"
    evidence = {
        "meeting": state["number"],
        "present": state["present"],
        "tally": state["tally"].get(str(at), {}),
        "kind": item["kind"],
        "title": item["title"],
        "precedent": precedent(outcome, item),
        "classes": class_change(outcome.get("classes")),
    }
    fields: dict[str, Any] = {name: outcome.get(name) for name in ("verdict", "new_label", "labels", "issues", "note")}
    judged = fields["verdict"] is not None or fields["issues"]
    if not judged and not fields["note"]:
        raise HardlookError("an outcome needs a verdict, an issue or a note")
    for _ in range(20):  # another lead may have taken the number meanwhile
        seq = 1 + max(log.acknowledged([client]).values(), default=0)
        event = Event(
            client=client,
            seq=seq,
            example_id=item["example_id"],
            reviewer=lead,
            action="adjudicate" if judged else "comment",
            evidence=evidence,
            label=about.get("label"),
            fingerprint=about.get("fingerprint"),
            **fields,
        )
        try:
            log.append([event])
            break
        except EventRefused as error:
            if "other content" not in str(error):
                raise
    else:
        raise HardlookError("others took the outcome's number twenty times in a row; record the outcome again")
    if item["kind"] == "flag" and judged:
        log.append(
            [Event(client=f"{client} flags", seq=seq, example_id=item["example_id"], reviewer=lead, action="unflag")]
        )
    return change(log, lambda now: now["recorded"].update({str(at): seq}))
