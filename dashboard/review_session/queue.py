"""The queue of a session: which examples are to review, in which order, and where the reviewer stopped.

The queue is computed from the ranking and the log, so it is the same on any machine. It lists the examples that are not
decided, and the decided ones that a later model contradicts (``scoring.reviews.sessions``). It continues after the last
example that the reviewer decided. Members of a group follow each other.

Cost: what changed since the last look at the log; a model's opinions once about what is decided, then about what is
decided next.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from dashboard.auth.serving import serving
from dashboard.blinding import second_reader
from dashboard.grid.session import Queue
from dashboard.queries import database, decisions
from dashboard.queries.selection import META, identifier, source
from dashboard.review_session.arrangement import Arrangement
from scoring.audit import Audit, Run
from scoring.queue.order import opinions, together
from scoring.queue.order import suggestions as all_suggestions
from scoring.queue.standings import Followed, Stand
from scoring.reviews import sessions

SESSION = "Session"
"""The title of the session's panel in the evidence of a decision (``dashboard.grid.session``)."""
GROUP = "group"
"""The metadata column whose members stay together by default."""


def keep_groups_together(rows: Arrangement, groups: Mapping[str, str]) -> Arrangement:
    """Returns the queue with all members of a group at the position of its first member."""
    return rows.take(together([groups.get(example) for example in rows.ids])) if groups else rows


def groups(audit: Audit, column: str | None) -> dict[str, str]:
    """Returns example_id → its group, as text; examples without one are left out."""
    if column is None:
        return {}
    return _groups(database.stamp(audit.examples_path), META + column)


@lru_cache(maxsize=2)
def _groups(examples: database.Stamp, column: str) -> dict[str, str]:
    name = identifier(column)
    query = f"SELECT example_id, CAST({name} AS VARCHAR) g FROM {source(examples[0])} WHERE {name} IS NOT NULL"
    table = database.sql(query)
    return dict(zip(table["example_id"].to_pylist(), table["g"].to_pylist(), strict=True))


def suggested_examples(audit: Audit, run: Run, suggested: str) -> frozenset[str]:
    """Returns the examples whose suggested label is this class."""
    return _suggested(audit.root, run.name, _opinion_stamps(audit, run), suggested)


@lru_cache(maxsize=16)
def _suggested(root: Path, name: str, _stamps: tuple[Any, ...], suggested: str) -> frozenset[str]:
    audit = database.audit_at(root)
    found = all_suggestions(audit, audit.run(name))
    return frozenset(found.loc[found["suggested_label"] == suggested, "example_id"])


def _opinion_stamps(audit: Audit, run: Run) -> tuple[Any, ...]:
    return tuple(database.stamp(path) for path in (audit.examples_path, run.predictions_path, run.out_of_fold_path))


def settled(audit: Audit, run: Run) -> frozenset[str]:
    """Returns the examples that the visitor need not review: decided ones, unless a later model contradicts them or
    the visitor is wanted as a second reader."""
    second = second_reader.hidden_from(audit, serving().identity.reviewer)
    return decisions.state_at(audit)["decided"] - reopened(audit, run) - second.keys()


def decided_since(audit: Audit, position: int) -> list[str]:
    """Returns the examples that were open at a position of the log and that the visitor has decided since."""
    now = decisions.standings(audit)
    own = now.decided_by(serving().identity.reviewer)
    return [one for one, at in own.items() if at > position and not now.was_decided(one, position)]


def to_review(audit: Audit, run: Run, rows: Arrangement, as_of: int | None = None) -> Arrangement:
    """Returns the rows that are still to review: undecided ones, and decided ones that a later model contradicts.

    as_of: examples that the visitor decided after this position stay in the queue; what others decided leaves it, and
    what is undone returns, at once.
    """
    closed = settled(audit, run)
    return rows.without(closed if as_of is None else closed - frozenset(decided_since(audit, as_of)))


def reopened(audit: Audit, run: Run) -> frozenset[str]:
    """Returns the decided examples that this run's model contradicts, if its output was not on screen at the
    decision."""
    decisions.standings(audit)
    url = serving().log_url
    stamps = _opinion_stamps(audit, run)
    return frozenset(_reopened(url, audit.log_name(url), run.name, run.root, stamps).now())


@lru_cache(maxsize=8)
def _reopened(_url: str, _log: str, name: str, root: Path, _stamps: tuple[Any, ...]) -> Followed[bool]:
    audit = database.audit_at(root)
    run = audit.run(name)
    model = sessions.model_of(run)

    def contradicted(stands: Mapping[str, Stand]) -> dict[str, bool]:
        decided = {one: stand.decisions for one, stand in stands.items() if stand.decisions}
        found = opinions(audit, run, decided)
        return {
            one: True
            for one, answers in decided.items()
            if sessions.is_contradicted(answers, found.get(one), run.name, model)
        }

    return Followed(decisions.standings(audit), contradicted)


def resume(rows: Arrangement, whole: Arrangement, example_in_url: str | None, last: str | None) -> Queue:
    """Returns the queue and its start.

    rows: the examples to review, in order; whole: the same with decided ones; example_in_url: the address's example;
    last: the example that the reviewer decided last.
    """
    ids = rows.ids
    at = rows.place_of(example_in_url)
    if at is not None:
        return Queue(ids, at)
    linked = whole.place_of(example_in_url)
    if linked is not None:
        return Queue(ids, rows.next_of(whole, linked) or 0)
    place = whole.place_of(last)
    following = None if place is None else rows.next_of(whole, place + 1)
    if following is None:
        return Queue(ids, 0)
    skipped = f"; you skipped {following:,} before it" if following else ""
    return Queue(
        ids, following, f"Resumed after your last decision{skipped}. Press Home to go to the first undecided example."
    )


def last_decided(audit: Audit, among: Arrangement) -> str | None:
    """Returns the example of a queue that the visitor decided last in a session, or None. A decision on the sheet, on a
    grid or about many look-alikes is no place in the queue: the suspects before it were not passed over."""
    places = among.ranking.places
    standings, reviewer = decisions.standings(audit), serving().identity.reviewer
    own = standings.decided_by(reviewer)
    shown = among.ranking.members(among.ids)
    for one in sorted(own, key=own.__getitem__, reverse=True):
        if one in places and shown[places[one]] and _in_session(standings.of(one), reviewer):
            return one
    return None


def _in_session(stand: Stand, reviewer: str | None) -> bool:
    act = next((act for act in stand.decisions if act.reviewer == reviewer), None)
    return act is not None and act.batch is None and act.evidence.get("panel", SESSION) == SESSION
