"""Assignments: which reviewer gets which examples, and what is left for a reviewer.

An *assignment* is an event (``assign``, ``release``) that names an example and an assignee; it stands until it is
released or undone. Examples are chosen by class, slice, metadata or a score queue and given to one person, or dealt out
among several by share.

What a reviewer gets from a queue, in this order:

1. what is assigned to them and nobody has read;
2. examples that wait for a second opinion (``scoring.queue.second_reader_policy``) by somebody else than their first
reader, and
   that nobody else was given;
3. what is assigned to nobody and unread.

An example that another person has locked (``scoring.queue.locks``), or that the reviewer has decided, is left out.
Within each group the queue's order holds, second opinions apart: they come in an order of their own, drawn by hash, so
that their place tells nothing about the first answer.

Inputs → outputs: a queue (data frame) and the log → the queue for one reviewer. Cost: the log's tables, which follow
the log; one query for the locks. Limit: locks and assignments keep people apart, they refuse no decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
import pandas as pd

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table
from scoring.queue import locks
from scoring.queue.second_reader_policy import ReviewPolicy, drawn
from scoring.reviews import ReviewLog
from scoring.reviews.event import Event

FIRST, SECOND = "first", "second"


@dataclass(frozen=True)
class Share:
    """Which examples are a reviewer's to read, of any queue.

    ``mine``: assigned to them; ``second``: read once, by somebody else, and wanted twice; ``closed``: not theirs,
    because they are read, given to others or locked by others. All else is open to everybody.
    """

    mine: frozenset[str]
    second: frozenset[str]
    closed: frozenset[str]

    @classmethod
    def of(
        cls,
        reviewer: str,
        read: Set[str],
        waiting: Mapping[str, str],
        given: Mapping[str, Sequence[str]],
        held: Mapping[str, str],
    ) -> Share:
        """Returns the share. read: decided by anybody; waiting: read once → first reader; given: standing assignments;
        held: locks."""
        mine = frozenset(one for one, names in given.items() if reviewer in names)
        taken = {one for one, names in given.items() if one not in mine and _left(names, waiting.get(one))}
        second = frozenset(one for one, reader in waiting.items() if reader != reviewer)
        others = {one for one, holder in held.items() if holder != reviewer}
        return cls(mine, second, frozenset((read - second) | taken | others))

    def order(self, ids: Sequence[str], seed: int) -> list[int]:
        """Returns the places of what is left of a queue, in the order to read it: assigned ones, second opinions by
        lot, the rest."""
        left = [at for at, one in enumerate(ids) if one not in self.closed]
        second = [at for at in left if ids[at] in self.second]
        first = [at for at in left if ids[at] not in self.second]
        mine = [at for at in first if ids[at] in self.mine]
        rest = [at for at in first if ids[at] not in self.mine] if mine else first
        return [*mine, *sorted(second, key=lambda at: _lot(seed, ids[at])), *rest]


def for_reviewer(
    queue: pd.DataFrame, log: ReviewLog, reviewer: str, now: datetime, *, policy: ReviewPolicy | None = None
) -> pd.DataFrame:
    """Returns what is left of a queue for one reviewer, in the order to read it.

    queue: data frame with example_id, in order, and split where the policy reads test blind; other columns are carried
    along. now: an aware datetime, for locks. Adds reading ("first" or "second"), assigned (bool) and blind (bool: what
    others and the model say stays hidden until the first verdict).
    """
    policy = policy or ReviewPolicy()
    splits = dict(zip(queue["example_id"], queue["split"], strict=True)) if "split" in queue else {}
    consensus = log.consensus()
    settled = set(consensus.loc[consensus["status"] == "adjudicated", "example_id"])
    waiting = policy.waiting(log.decisions(), settled, splits)
    share = Share.of(
        reviewer, set(consensus["example_id"]), waiting, assignees(log), locks.held(log, now, policy.lock_minutes)
    )
    ids = queue["example_id"].tolist()
    found = queue.iloc[share.order(ids, policy.seed)].reset_index(drop=True)
    second = found["example_id"].isin(list(share.second)).to_numpy(dtype=bool)
    test = np.array([policy.is_blind and splits.get(one) == "test" for one in found["example_id"]], dtype=bool)
    return found.assign(
        reading=np.where(second, SECOND, FIRST),
        assigned=found["example_id"].isin(list(share.mine)).to_numpy(dtype=bool),
        blind=second | test,
    )


def _left(assignees: Sequence[str], reader: str | None) -> list[str]:
    """Returns who was given an example and has not read it."""
    return [name for name in assignees if name != reader]


@lru_cache(maxsize=100_000)
def _lot(seed: int, example_id: str) -> float:
    return drawn(seed, "order of second opinions", example_id)


def assignees(log: ReviewLog) -> dict[str, tuple[str, ...]]:
    """The standing assignments: example_id → who was given it, in order."""
    found: dict[str, tuple[str, ...]] = {}
    table = log.assignments()
    for example, name in zip(table["example_id"], table["assignee"], strict=True):
        found[example] = (*found.get(example, ()), name)
    return found


def distribute(ids: Iterable[str], shares: Mapping[str, float], seed: int = 0) -> dict[str, str]:
    """Deal examples out by share → {example_id: name}; whom an example falls to depends on its id alone.

    shares: name → weight, more than 0; they need not add up to 1.

    >>> dealt = distribute(map(str, range(1000)), {"ana": 3, "ben": 1})
    >>> 700 < sum(name == "ana" for name in dealt.values()) < 800
    True
    """
    total = sum(shares.values())
    if not shares or min(shares.values()) <= 0:
        raise HardlookError(f"shares are {dict(shares)!r}; needed a weight above 0 for each name")
    found = {}
    for example in ids:
        point = drawn(seed, "deal", example) * total
        for name, weight in shares.items():
            found[example] = name
            point -= weight
            if point < 0:
                break
    return found


def assignment_events(dealt: Mapping[str, str], by: str, client: str, first_seq: int = 1) -> list[Event]:
    """The events that give each example to its assignee, as one act that one undo takes back."""
    return [
        Event(
            client=client,
            seq=first_seq + number,
            example_id=example,
            reviewer=by,
            action="assign",
            assignee=name,
            batch=f"assign {client} {first_seq}",
        )
        for number, (example, name) in enumerate(dealt.items())
    ]


def release_events(
    ids: Iterable[str], by: str, client: str, first_seq: int = 1, assignee: str | None = None
) -> list[Event]:
    """The events that take examples back, from one assignee or from all."""
    return [
        Event(
            client=client,
            seq=first_seq + number,
            example_id=example,
            reviewer=by,
            action="release",
            assignee=assignee,
            batch=f"release {client} {first_seq}",
        )
        for number, example in enumerate(ids)
    ]


def chosen(
    audit: Audit,
    *,
    split: str | None = None,
    class_name: str | None = None,
    slice_of: str | None = None,
    where: Mapping[str, str] | None = None,
    run: str | None = None,
) -> list[str]:
    """The ids of the examples of a split, a class, a slice (``"worst:3"``: slice 3 of the slicing *worst*) and with
    these values of metadata columns; every condition that is given must hold."""
    table = read_table(audit.examples_path).to_pandas().set_index("example_id")
    kept = pd.Series(True, index=table.index)
    for column, value in (("split", split), ("label", class_name)):
        if value is not None:
            kept &= (table[column] == value).fillna(False).astype(bool)
    for column, value in (where or {}).items():
        name = f"meta.{column.removeprefix('meta.')}"
        if name not in table:
            has = ", ".join(c.removeprefix("meta.") for c in table if c.startswith("meta.")) or "none"
            raise HardlookError(f"there is no metadata column {column!r}; available: {has}")
        kept &= table[name].map(lambda one: str(one)) == value
    if slice_of is not None:
        kept &= table.index.isin(_members(audit, slice_of, run))
    return table.index[kept].tolist()


def _members(audit: Audit, slice_of: str, run: str | None) -> set[str]:
    from scoring.slices.slicing_run import read_slicing

    name, _, number = slice_of.rpartition(":")
    if not name or not number.isdigit():
        raise HardlookError(f"{slice_of!r} is not a slice; write SLICING:NUMBER, for example kmeans:3")
    members, _ = read_slicing(audit.run(run), name)
    found = members.loc[members["slice_id"] == int(number), "example_id"]
    if not len(found):
        raise HardlookError(f"slicing {name!r} has no slice {number}; its slices are 0 to {members['slice_id'].max()}")
    return set(found)


def parse_shares(text: str) -> dict[str, float]:
    """``ana,ben=2`` → {"ana": 1, "ben": 2}: who gets how much.

    >>> parse_shares("ana@example.org, ben=2")
    {'ana@example.org': 1.0, 'ben': 2.0}
    """
    found = {}
    for part in filter(None, (one.strip() for one in text.replace("\n", ",").split(","))):
        name, equals, weight = part.rpartition("=")
        try:
            found[name.strip() if equals else part] = float(weight) if equals else 1.0
        except ValueError as error:
            raise HardlookError(f"{part!r} is not a share; write names, or names with weights: ana=1,ben=2") from error
    if not found:
        raise HardlookError("no name was given; write names, or names with weights: ana=1,ben=2")
    return found


def workload(log: ReviewLog) -> pd.DataFrame:
    """Per assignee: assigned, read by them, open."""
    table, decisions = log.assignments(), log.decisions()
    done = set(zip(decisions["example_id"], decisions["reviewer"], strict=True))
    pairs = zip(table["example_id"], table["assignee"], strict=True)
    frame = pd.DataFrame({"assignee": table["assignee"], "read": [pair in done for pair in pairs]})
    grouped = frame.groupby("assignee", sort=True)["read"]
    found = pd.DataFrame({"assigned": grouped.size(), "read": grouped.sum().astype(int)})
    return found.assign(open=found["assigned"] - found["read"]).reset_index()
