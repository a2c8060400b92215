"""The minutes of a meeting as Markdown: times, people, and per item the answers, the votes and the outcome.

Inputs → outputs: the log and a meeting's state → text; untrusted text is escaped. Cost: the log's decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scoring.reviews.meeting_outcomes import none_if_null, outcomes
from scoring.reviews.review_log import ReviewLog
from scoring.reviews.verdicts import sentence


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
    words = sentence(none_if_null(row.verdict), none_if_null(row.label), none_if_null(row.new_label), row.labels)
    issues = ", ".join(row.issues)
    note = none_if_null(row.note)
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
