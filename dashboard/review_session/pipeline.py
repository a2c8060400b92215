"""The way of a queue, from the frozen ranking of a page to the examples that are shown, one line a step.

    list     =  ranking → suggested label → which end comes first → random order of a blind test → nothing hidden
    session  =  list → controls mixed in → groups together → what is left for the visitor → where to start

Each step is an ``Arrangement`` of the same ranking. Inputs → outputs: a ranking and a ``QueueRequest`` → the
arrangement, and a session's queue. Cost: some 20 ms at 60,000 rows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from dashboard.auth.serving import serving
from dashboard.blinding import hidden_controls, model_output, second_reader
from dashboard.grid.session import Queue
from dashboard.queries.score_columns import ScoreColumn
from dashboard.queries.selection import Selection
from dashboard.review_session import queue as queueing
from dashboard.review_session import shared_queue
from dashboard.review_session.arrangement import Arrangement
from dashboard.review_session.frozen_ranking import FrozenRanking
from scoring.audit import Audit, Run
from scoring.queue import blinding as hiding
from scoring.queue.order import Order

LOOKS = 3
"""Of those who ask for the same example at once one gets it; the others look again."""


@dataclass(frozen=True)
class QueueRequest:
    """The choices on the page: score, end that comes first, grouping, suggested label, and selection of examples.
    ``from_other_end``: the least suspicious come first."""

    column: ScoreColumn
    default: Order | None
    from_other_end: bool
    selection: Selection
    group: str | None = None
    suggested: str | None = None
    controls: bool = False

    @property
    def end(self) -> str:
        """The end that counts as suspicious."""
        return self.default.suspicious if self.default else self.column.hard_end or "high"

    @property
    def ascending(self) -> bool:
        """Returns whether the lowest come first."""
        return (self.end == "low") != self.from_other_end


@dataclass(frozen=True)
class SessionQueue:
    """A session's queue and the rows behind it. ``drawn``: the examples among which controls were mixed; ``again``:
    decided ones that a later model contradicts."""

    queue: Queue
    rows: Arrangement
    drawn: frozenset[str]
    again: frozenset[str]


def listed(
    audit: Audit, run: Run, ranking: FrozenRanking, request: QueueRequest, in_session: bool
) -> tuple[Arrangement, str | None]:
    """Returns the rows of the queue, and a sentence about those that are left out because they are hidden."""
    rows = Arrangement.whole(ranking)
    if request.suggested is not None:
        rows = rows.only(queueing.suggested_examples(audit, run, request.suggested))
    if not request.ascending:
        rows = rows.backwards()
    drawn = model_output.blind_test_order(audit, run, rows.ids, request.selection.split)
    if drawn is not None:
        rows = rows.take(drawn)
    return without_hidden(audit, rows, keep=kept_blind(audit, request, in_session))


def without_hidden(audit: Audit, rows: Arrangement, keep: Collection[str]) -> tuple[Arrangement, str | None]:
    """Returns the rows that are not hidden, and a sentence about the others. keep: reasons for which a row stays."""
    hidden = {one: reason for one, reason in model_output.all_hidden(audit).items() if reason not in keep}
    gone = rows.only(hidden)
    if not len(gone):
        return rows, None
    return rows.without(hidden), hiding.left_out(hidden[one] for one in gone.ids)


def kept_blind(audit: Audit, request: QueueRequest, in_session: bool) -> list[str]:
    """Returns the reasons for which a blind example stays in the queue, because its position reveals nothing: test
    and second readings are in random order, and blind rows are mixed with controls. With a chosen suggested label
    every position would reveal it."""
    if request.suggested is not None:
        return []
    blind_test = [hiding.TEST] if second_reader.is_blind_split(audit, request.selection.split) else []
    if not in_session:
        return blind_test
    return [*blind_test, hiding.SECOND, *([hiding.FIRST] if request.controls else [])]


def grouped(audit: Audit, rows: Arrangement, request: QueueRequest) -> Arrangement:
    """Returns the rows with the members of each group together."""
    return queueing.keep_groups_together(rows, queueing.groups(audit, request.group))


def session(
    audit: Audit, run: Run, ranking: FrozenRanking, request: QueueRequest, rows: Arrangement, at: str | None
) -> SessionQueue | None:
    """Returns the queue of a session over the listed rows, started at the example ``at`` of the address or where its
    reviewer stopped; None where nothing is left to review."""
    drawn: frozenset[str] = frozenset()
    if request.controls:
        order, drawn = hidden_controls.mix_controls(audit, run, rows.ids, request.selection.split)
        rows = rows.take(order)
    whole = grouped(audit, rows, request)
    is_list = request.selection.decision is not None
    if shared_queue.is_shared() and not is_list:
        return _shared(audit, whole, (run.name, request, ranking.as_of, ranking.scores), drawn, at)
    rows = whole if is_list else queueing.to_review(audit, run, whole, ranking.as_of)
    if not len(rows):
        return None
    last = queueing.last_decided(audit, whole)
    queue = replace(queueing.resume(rows, whole, at, last), left=len(queueing.to_review(audit, run, rows)))
    skips = not is_list and serving().identity.may("auditor")
    return SessionQueue(replace(queue, skips=skips), rows, drawn, queueing.reopened(audit, run))


def _shared(
    audit: Audit, whole: Arrangement, key: tuple[object, ...], drawn: frozenset[str], at: str | None
) -> SessionQueue | None:
    """Returns the visitor's part of a queue, started at an example that the visitor holds; somebody else may take the
    first one between the look at the locks and the visitor's own, so that a second look is needed."""
    found = None
    for _ in range(LOOKS):
        left = shared_queue.open_rows(audit, whole)
        rows = shared_queue.visitor_rows(audit, whole, left, key)
        if not len(rows):
            return None
        found = SessionQueue(shared_queue.start_queue(rows, left, at), rows, drawn, frozenset())
        if shared_queue.lock_start(audit, found.queue):
            break
    return found
