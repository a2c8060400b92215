"""The team's meeting: agenda, current item, outcomes and minutes.

A meeting is one row beside the log (table ``hardlook_meetings``): its agenda, the item that all look at, the tally of
hands. What it comes to are events like any other: an outcome is an ``adjudicate`` of the lead whose evidence names the
meeting, who was there, the tally, and, where the meeting wanted it so,

- a *precedent*: a text and examples, shown beside later look-alikes;
- a change of classes, ``merge`` or ``split``: which classes become which, exported as a mapping.

Precedents, the mapping and the minutes are therefore derived from events that stand; an undo takes them back.

Inputs → outputs: the log, a run's slices → agenda; acts → the meeting's state, changed under the database's lock.
Cost: one small transaction per act, one indexed read per look. Limits: one open meeting per audit; a slice is discussed
by its most central examples, and its outcome is kept as a comment on the first of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import sqlalchemy as sa

from scoring.audit import Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_json
from scoring.reviews import decisions
from scoring.reviews import event_store as store
from scoring.reviews.event import Event, EventRefused
from scoring.reviews.event_store import meeting_table as table
from scoring.reviews.log_database import explained, writing
from scoring.reviews.review_log import ReviewLog
from scoring.reviews.verdicts import sentence, verdicts_by_label_status

KINDS = ("dispute", "flag", "slice")
SLICES = 5
LONGEST_TEXT = 10_000


# -- the agenda ------------------------------------------------------------------------------------------------------


def agenda(
    log: ReviewLog,
    run: Run | None = None,
    *,
    slices: int = SLICES,
    among: Iterable[str] | None = None,
    blind: Collection[str] = (),
    hidden: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Disputes, then flagged examples, then the worst slices: [{kind, example_id, examples, title, why}].

    among: only these examples (a filter by metadata), slices included by their most central member; None: all. blind:
    splits that are read blind, whose slices would tell what the model says. hidden: examples of which nobody is told
    that yet (``scoring.queue.blinding``); a slice shows its others.
    """
    allowed = None if among is None else set(among)
    items = [*_disputes(log), *_flagged(log), *_slices(run, slices, blind, frozenset(hidden))]
    seen: set[tuple[str, str]] = set()
    kept = []
    for item in items:
        twice = item["kind"] == "flag" and ("dispute", item["example_id"]) in seen
        if not twice and (allowed is None or item["example_id"] in allowed):
            seen.add((item["kind"], item["example_id"]))
            kept.append(item)
    return kept


def _disputes(log: ReviewLog) -> list[dict[str, Any]]:
    consensus = log.consensus()
    several = consensus["reviewers"].map(len) > 1
    open_ones = (consensus["status"] == "disputed") | (
        (consensus["status"] == "agreed") & consensus["verdict"].isin(verdicts_by_label_status("open")) & several
    )
    rows = consensus[open_ones].sort_values("position")
    return [
        _item(
            "dispute",
            row.example_id,
            "Dispute" if row.status == "disputed" else "Unsure",
            f"{', '.join(row.reviewers)} {'differ' if row.status == 'disputed' else 'are all unsure'}",
        )
        for row in rows.itertuples()
    ]


def _flagged(log: ReviewLog) -> list[dict[str, Any]]:
    return [
        _item(
            "flag",
            row.example_id,
            "Flagged",
            f"flagged by {row.reviewer}" + ("" if pd.isna(row.note) else f": {row.note}"),
        )
        for row in log.flags().itertuples()
    ]


def _slices(run: Run | None, most: int, blind: Collection[str], hidden: frozenset[str]) -> list[dict[str, Any]]:
    """The least accurate slices of all kept slicings, with members that may be shown."""
    found = []
    if run is None:
        return []
    for name in run.slicing_names():
        summary = read_json(run.slices_summary_path(name), {})
        if summary.get("settings", {}).get("split") in blind:
            continue
        for one in summary.get("slices", []):
            members = [example for example in one.get("nearest") or () if example not in hidden]
            if one.get("accuracy") is not None and members:
                found.append((one["accuracy"], -one["size"], name, one, members))
    found.sort(key=lambda one: one[:3])
    return [
        _item(
            "slice",
            members[0],
            f"Slice {one['slice_id']} of {name}",
            f"accuracy {100 * one['accuracy']:.3g} % on {one['size']:,} examples",
            members[:6],
        )
        for _, _, name, one, members in found[:most]
    ]


def _item(kind: str, example_id: str, title: str, why: str, examples: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "kind": kind,
        "example_id": example_id,
        "examples": list(examples) or [example_id],
        "title": title,
        "why": why,
    }


# -- one meeting -----------------------------------------------------------------------------------------------------


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
    """Who is there, as the lead has it."""
    clean = [name.strip()[:200] for name in names if name.strip() and "\0" not in name][:200]
    return change(log, lambda state: state.update(present=list(dict.fromkeys(clean))))


def end(log: ReviewLog, now: datetime | None = None) -> dict[str, Any]:
    """Close the meeting."""
    now = now or datetime.now(UTC)
    return change(log, lambda state: state.update(ended=now.isoformat(timespec="seconds")))


# -- outcomes --------------------------------------------------------------------------------------------------------


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
        "precedent": _precedent(outcome, item),
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


def _precedent(outcome: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any] | None:
    text = (outcome.get("precedent") or "").strip()
    if not text:
        return None
    if len(text) > LONGEST_TEXT:
        raise HardlookError(f"the precedent has {len(text):,} characters; needed at most {LONGEST_TEXT:,}")
    return {"text": text, "examples": list(dict.fromkeys([*item["examples"], *outcome.get("look_alikes", ())]))}


def class_change(change: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A merge or split, checked: {kind, from: [names], to: [names]}.

    >>> class_change({"kind": "merge", "from": ["cat", "kitten"], "to": ["cat"]})["to"]
    ['cat']
    """
    if not change:
        return None
    kind = change.get("kind")
    old, new = ([name.strip() for name in change.get(side, ()) if name.strip()] for side in ("from", "to"))
    shape = {"merge": len(old) >= 2 and len(new) == 1, "split": len(old) == 1 and len(new) >= 2}
    if not shape.get(str(kind), False):
        raise HardlookError(
            f"a change of classes from {old} to {new} is no {kind!r}; a merge takes two or more classes into one, a "
            "split one into two or more"
        )
    return {"kind": kind, "from": list(dict.fromkeys(old)), "to": list(dict.fromkeys(new))}


def outcomes(log: ReviewLog) -> pd.DataFrame:
    """The standing events that meetings wrote, evidence included, in commit order."""
    events = log.events()
    if not len(events):
        return events
    stands = decisions.not_undone(events)
    from_meeting = [isinstance(one, Mapping) and "meeting" in one for one in events["evidence"]]
    return events[stands & pd.Series(from_meeting, index=events.index).to_numpy(dtype=bool)].reset_index(drop=True)


def precedents(log: ReviewLog) -> list[dict[str, Any]]:
    """What meetings wanted remembered: [{text, examples, label, new_label, verdict, meeting, position}]."""
    return [
        {
            **row.evidence["precedent"],
            "label": _plain(row.label),
            "new_label": _plain(row.new_label),
            "verdict": _plain(row.verdict),
            "meeting": row.evidence["meeting"],
            "position": int(row.position),
        }
        for row in outcomes(log).itertuples()
        if row.evidence.get("precedent")
    ]


def precedents_for(
    found: Sequence[Mapping[str, Any]],
    example_id: str,
    neighbours: Iterable[str] = (),
    label: str | None = None,
    suggestion: str | None = None,
) -> list[dict[str, Any]]:
    """The precedents that an example looks like: it or a near neighbour is one of theirs, or label and suggestion are
    the label and the outcome of theirs. The newest first."""
    near = {example_id, *neighbours}
    alike = (
        one
        for one in found
        if near & set(one["examples"])
        or (suggestion is not None and (label, suggestion) == (one["label"], one["new_label"]))
    )
    return sorted(map(dict, alike), key=lambda one: -one["position"])


def class_mapping(log: ReviewLog, classes: Sequence[str]) -> dict[str, Any]:
    """Merges and splits in the order in which they were decided, and what each class becomes: {changes, mapping}.

    A class that is split maps to several; somebody has to look at its examples again.
    """
    changes = [
        {**row.evidence["classes"], "meeting": row.evidence["meeting"], "by": row.reviewer, "note": _plain(row.note)}
        for row in outcomes(log).itertuples()
        if row.evidence.get("classes")
    ]
    mapping = {name: [name] for name in classes}
    for change_ in changes:
        for name, becomes in mapping.items():
            if set(becomes) & set(change_["from"]):
                kept = [one for one in becomes if one not in change_["from"]]
                mapping[name] = list(dict.fromkeys([*kept, *change_["to"]]))
    return {"format": 1, "changes": changes, "mapping": mapping}


def _plain(value: Any) -> Any:
    return None if value is None or (not isinstance(value, (str, list, tuple)) and pd.isna(value)) else value


# -- minutes ---------------------------------------------------------------------------------------------------------


def minutes(log: ReviewLog, meeting: Mapping[str, Any], title: str) -> str:
    """Returns the minutes as Markdown: times, people, and per item the answers, votes and outcome."""
    found = outcomes(log)
    mine = [row for row in found.itertuples() if row.evidence["meeting"] == meeting["number"]] if len(found) else []
    about = {row.example_id: row for row in mine}
    lines = [
        f"# {escaped(title)}: meeting {meeting['number']}",
        "",
        f"- from {meeting['started']} to {meeting['ended'] or '(open)'}",
        f"- led by {escaped(meeting['lead'])}",
        f"- present: {', '.join(map(escaped, meeting['present'])) or 'not recorded'}",
        f"- {len(mine)} of {len(meeting['items'])} items decided",
        "",
    ]
    decided = log.decisions()
    for number, item in enumerate(meeting["items"]):
        row = about.get(item["example_id"])
        lines += [
            f"## {number + 1}. {escaped(item['title'])}: {escaped(item['example_id'])}",
            "",
            escaped(item["why"]),
            "",
        ]
        own = decided[decided["example_id"] == item["example_id"]]
        lines += [f"- {escaped(one.reviewer)}: {escaped(answer_text(one))}" for one in own.itertuples()]
        tally = meeting["tally"].get(str(number), {})
        if tally:
            lines.append(f"- votes: {', '.join(f'{escaped(name)} {n}' for name, n in tally.items())}")
        lines += _decided(row) if row is not None else ["- nothing was decided"]
        lines.append("")
    return "\n".join(lines)


def _decided(row: Any) -> list[str]:
    text = answer_text(row) if row.action == "adjudicate" else f"noted: {row.note}"
    lines = [f"- **decided by {escaped(row.reviewer)}**: {escaped(text)}"]
    if row.evidence.get("precedent"):
        lines.append(f"- precedent: {escaped(row.evidence['precedent']['text'])}")
    if row.evidence.get("classes"):
        change = row.evidence["classes"]
        lines.append(
            f"- {change['kind']} of classes: {escaped(', '.join(change['from']))} → {escaped(', '.join(change['to']))}"
        )
    return lines


def answer_text(row: Any) -> str:
    """A decision in words, its note included."""
    words = sentence(_plain(row.verdict), _plain(row.label), _plain(row.new_label), row.labels)
    issues = ", ".join(row.issues)
    note = _plain(row.note)
    return "; ".join(filter(None, (words, issues, f"“{note}”" if note else "")))


def escaped(text: Any) -> str:
    r"""Untrusted text inside Markdown: on one line, with nothing in it that is markup.

    >>> print(escaped("# a *b* <i>\nc"))
    \# a \*b\* &lt;i&gt; c
    """
    flat = " ".join(str(text).split())
    flat = "".join(f"\\{c}" if c in "\\`*_[]|~$!" else c for c in flat)
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"\\{flat}" if flat[:1] in ("#", "-", "+", "=") else flat
