"""Which example of the last reading each file is: identity, which a path only names.

A file keeps the id that its path had, as long as its content stays. A file at a new path, or with other content at an
old one, is the example whose content it has and whose own place no longer has it: it was moved, renamed, or swapped,
and all that is joined on its id (scores, decisions, assignments, verified labels) follows. Among equal contents, the
longest end of the path that one of them alone has decides, within a split first; where one is missing and one is new,
it moved. The rest is ambiguous, gets new ids, and is reported. Content that is new at an old path is that example,
changed.

Inputs → outputs: places, the examples known before, a reader of fingerprints → ids, what moved, what is ambiguous.
Cost: none where nothing is missing or changed; else one more read of each new or changed file. Known limits: a file
that was moved and edited is a new example; ids of the user's own and ids from content are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

Who = TypeVar("Who")


@dataclass(frozen=True)
class Known:
    """An example that is known from before. ``path``: its file as the table has it, or where hardlook has moved it
    since (``was``: from where), None where only its id is known; ``turn``: 0 for the first row of that file, 1 for the
    next …"""

    example_id: str
    path: str | None
    turn: int
    split: str | None
    fingerprint: str | None
    was: str | None = None


@dataclass(frozen=True)
class Place:
    """A row that is named by a file: ``name`` is the id that it would get as a new example."""

    name: str
    path: str
    turn: int
    split: str


@dataclass(frozen=True)
class Settled:
    """The id of each place, how many examples moved there, and per ambiguous content the new ids and the old."""

    ids: list[str]
    moved: int = 0
    ambiguous: list[tuple[list[str], list[str]]] = field(default_factory=list)


def settle(
    places: Sequence[Place],
    known: Sequence[Known],
    taken: Iterable[str],
    unchanged: Callable[[int, str], bool],
    contents: Callable[[Sequence[int]], Mapping[int, str | None]],
) -> Settled:
    """Returns the id of each place.

    ``taken``: ids of other examples. ``unchanged(place, example_id)``: whether the file there is surely that example's,
    unopened. ``contents(places)``: the fingerprint of each file, None where it cannot be read.
    """
    used = set(taken)
    known = [each for each in known if each.example_id not in used]
    before = _by_place(places, known)
    kept = {at: one for at, one in before.items() if unchanged(at, one.example_id)}
    moved: dict[int, Known] = {}
    ambiguous: list[tuple[list[int], list[Known]]] = []
    unread = [at for at in range(len(places)) if at not in kept]
    if any(before.get(at) is not one for one in _waiting(known, kept) for at in unread[:2]):
        content = contents(unread)
        kept |= {at: before[at] for at in unread if at in before and _has(before[at], content[at])}
        open_rows = {at: text for at in unread if at not in kept and (text := content[at]) is not None}
        moved, ambiguous = _moves(places, open_rows, _waiting(known, kept))
    gone = {one.example_id for one in moved.values()}
    held = kept | {at: one for at, one in before.items() if at not in moved and one.example_id not in gone} | moved
    used |= {one.example_id for one in known}
    ids: list[str] = []
    for at, place in enumerate(places):
        ids.append(held[at].example_id if at in held else _new(place.name, used))
    told = [([ids[at] for at in rows if at not in held], [one.example_id for one in olds]) for rows, olds in ambiguous]
    elsewhere = sum((one.was or one.path) != places[at].path for at, one in held.items() if one.path or at in moved)
    return Settled(ids, elsewhere, [(new, old) for new, old in told if new])


def _by_place(places: Sequence[Place], known: Sequence[Known]) -> dict[int, Known]:
    """Place → the example that was there: in the same file, else under the id that the place would give."""
    of_file = {(one.path, one.turn): one for one in known if one.path is not None}
    found = {
        at: of_file[place.path, place.turn] for at, place in enumerate(places) if (place.path, place.turn) in of_file
    }
    there = {one.example_id for one in found.values()}
    of_id = {one.example_id: one for one in known if one.example_id not in there}
    return found | {at: of_id[place.name] for at, place in enumerate(places) if at not in found and place.name in of_id}


def _waiting(known: Sequence[Known], kept: Mapping[int, Known]) -> list[Known]:
    """Examples with known content that are not where they were."""
    there = {one.example_id for one in kept.values()}
    return [one for one in known if one.fingerprint is not None and one.example_id not in there]


def _has(one: Known, content: str | None) -> bool:
    return content is not None and one.fingerprint == content


def _moves(
    places: Sequence[Place], rows: Mapping[int, str], waiting: Sequence[Known]
) -> tuple[dict[int, Known], list[tuple[list[int], list[Known]]]]:
    """Place → the example that moved there, and the equal contents of which nobody can say which is which."""
    moved: dict[int, Known] = {}
    for pairs, with_split in ((_by_end, True), (_by_end, False), (_last_two, True), (_last_two, False)):
        for new, old in _alike(places, rows, waiting, moved, with_split):
            moved |= pairs(places, new, old)
    return moved, _alike(places, rows, waiting, moved, False)


def _alike(
    places: Sequence[Place],
    rows: Mapping[int, str],
    waiting: Sequence[Known],
    moved: Mapping[int, Known],
    with_split: bool,
) -> list[tuple[list[int], list[Known]]]:
    """Files and waiting examples of the same content, and the same split where that is asked, that have no pair yet."""
    groups: dict[tuple[str | None, str | None], tuple[list[int], list[Known]]] = {}
    gone = {one.example_id for one in moved.values()}
    for at, content in rows.items():
        if at not in moved:
            groups.setdefault((content, places[at].split if with_split else None), ([], []))[0].append(at)
    for one in waiting:
        key = (one.fingerprint, one.split if with_split else None)
        if one.example_id not in gone and key in groups:
            groups[key][1].append(one)
    return [(new, old) for new, old in groups.values() if old]


def _last_two(places: Sequence[Place], rows: Sequence[int], olds: Sequence[Known]) -> dict[int, Known]:
    """The one file and the one example that are left."""
    return {rows[0]: olds[0]} if len(rows) == len(olds) == 1 else {}


def _by_end(places: Sequence[Place], rows: Sequence[int], olds: Sequence[Known]) -> dict[int, Known]:
    """Files and examples by the longest end of a path that one of each alone has."""
    found: dict[int, Known] = {}
    paths = {at: (_parts(places[at].path), places[at].turn) for at in rows}
    before = {one: (_parts(one.path or one.example_id), one.turn) for one in olds}
    for length in range(max(len(parts) for parts, _ in [*paths.values(), *before.values()]), 0, -1):
        gone = set(found.values())
        new = _alone({at: (*end[-length:], turn) for at, (end, turn) in paths.items() if at not in found}, length)
        old = _alone({one: (*end[-length:], turn) for one, (end, turn) in before.items() if one not in gone}, length)
        found |= {at: old[end] for end, at in new.items() if end in old}
    return found


def _alone(ends: Mapping[Who, tuple[str | int, ...]], length: int) -> dict[tuple[str | int, ...], Who]:
    """End of a path, of ``length`` parts → whose it is, where it is one's alone."""
    counts: dict[tuple[str | int, ...], list[Who]] = {}
    for who, end in ends.items():
        if len(end) == length + 1:
            counts.setdefault(end, []).append(who)
    return {end: who[0] for end, who in counts.items() if len(who) == 1}


def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.split("/"))


def _new(name: str, used: set[str]) -> str:
    """The name, with an ordinal where another example has it."""
    number, free = 1, name
    while free in used:
        number += 1
        free = f"{name}#{number}"
    used.add(free)
    return free
