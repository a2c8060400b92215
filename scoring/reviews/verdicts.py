"""The table of verdicts that a reviewer can give, used by the log, the policy, the estimates and the pages.

    given     the label is right                 several   several labels fit       unsure    not known
    other     another class is right             none      no class fits

A verdict is one row of ``VERDICTS``: its words and key on the pages, the fields that go with it, what it says about the
given label, and what becomes of the example by default. Everything that follows is read from the row, in the browser
too (``browser_table``), so that another verdict is another row. The names are stored in logs and patches and never
change.

Inputs: none → the table. Cost: none. Limit: an example has one label; *several* therefore has to be settled by
somebody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from scoring.audit.errors import HardlookError

OTHER_KEYS = ("a", "f", "g", "m", "n", "t", "v", "w", "x", "z")
"""Keys that do something else in the grid, its dialog or a session."""


@dataclass(frozen=True, kw_only=True)
class VerdictKind:
    """One verdict. Words are plain text, in which {new_label} and {labels} stand for what was chosen."""

    key: str
    act: str
    """The name of its button's act in the browser."""
    title: str
    """On its button."""
    help: str
    """What its key does."""
    bulk: str = ""
    """On the button that settles many at once; empty: it settles one at a time."""
    badge: str
    """On the card of an example that has it."""
    words: str
    """In lists and filters."""
    sentence: str
    """In minutes and votes."""
    true: str | None = None
    """The field that names what is true: "label" (the given one), "new_label", "labels"; None: it names no class."""
    label_is: str
    """What it says of the given label: "right", "wrong", "either" (as the labels named say), or "open"."""
    disposition: str
    """What becomes of the example where [policy] says nothing else (``scoring.reviews.disposition.DISPOSITIONS``)."""

    def __post_init__(self) -> None:
        if self.key in OTHER_KEYS or self.key.isdigit():
            raise HardlookError(
                f"verdict {self.title!r}: key {self.key!r} does something else in the grid or in a session; needed one "
                f"other than a digit and {', '.join(OTHER_KEYS)}"
            )

    @property
    def takes(self) -> str | None:
        """The field of an event that must come with it: "new_label", "labels", or none."""
        return None if self.true == "label" else self.true


VERDICTS: dict[str, VerdictKind] = {
    "given": VerdictKind(
        key="q",
        act="right",
        title="Right",
        help="the given label is right",
        bulk="All right",
        badge="✓ right",
        words="label is right",
        sentence="the label is right",
        true="label",
        label_is="right",
        disposition="keep",
    ),
    "other": VerdictKind(
        key="l",
        act="other",
        title="Other…",
        help="another label, from a list that can be searched; / does the same",
        bulk="All another…",
        badge="→ {new_label}",
        words="another label",
        sentence="it is {new_label}",
        true="new_label",
        label_is="wrong",
        disposition="relabel",
    ),
    "several": VerdictKind(
        key="b",
        act="several",
        title="Several…",
        help="several labels fit",
        badge="⧉ {labels}",
        words="several fit",
        sentence="several fit: {labels}",
        true="labels",
        label_is="either",
        disposition="second reader",
    ),  # one label per example: somebody has to choose, or exclude
    "none": VerdictKind(
        key="o",
        act="none",
        title="None",
        help="no class fits",
        bulk="None fits",
        badge="∅ none fits",
        words="none fits",
        sentence="no class fits",
        label_is="wrong",
        disposition="exclude",
    ),
    "unsure": VerdictKind(
        key="u",
        act="unsure",
        title="Unsure",
        help="unsure",
        bulk="All unsure",
        badge="? unsure",
        words="unsure",
        sentence="unsure",
        label_is="open",
        disposition="second reader",
    ),
}


def verdicts_by_label_status(*label_is: str) -> tuple[str, ...]:
    """Returns the verdicts by what they say of the given label.

    >>> verdicts_by_label_status("right"), verdicts_by_label_status("wrong", "either")
    (('given',), ('other', 'several', 'none'))
    """
    return tuple(name for name, kind in VERDICTS.items() if kind.label_is in label_is)


def verdicts_with_field(field: str | None) -> tuple[str, ...]:
    """Returns the verdicts that need this field of an event; None: those that need none.

    >>> verdicts_with_field("labels"), verdicts_with_field(None)
    (('several',), ('given', 'none', 'unsure'))
    """
    return tuple(name for name, kind in VERDICTS.items() if kind.takes == field)


def true_labels(verdict: str | None, label: Any, new_label: Any, labels: Iterable[str]) -> tuple[str, ...]:
    """Returns the labels that a decision names as true; none for a verdict without a class.

    >>> [true_labels(name, "cat", None, ("cat", "dog")) for name in ("given", "several", "none")]
    [('cat',), ('cat', 'dog'), ()]
    """
    kind = VERDICTS.get(verdict) if isinstance(verdict, str) else None
    named = {"label": (label,), "new_label": (new_label,), "labels": tuple(labels)}.get(
        kind.true or "" if kind else "", ()
    )
    return tuple(name for name in named if isinstance(name, str))


def label_is_wrong(verdict: str | None, label: Any, new_label: Any, labels: Iterable[str]) -> bool | None:
    """Returns whether a decision says that the given label is wrong; None if it leaves that open.

    >>> [label_is_wrong(name, "cat", "dog", ("cat", "dog")) for name in VERDICTS]
    [False, True, False, True, None]
    """
    kind = VERDICTS.get(verdict) if isinstance(verdict, str) else None
    if kind is None or kind.label_is == "open":
        return None
    if kind.takes:
        return label not in true_labels(verdict, label, new_label, labels)
    return kind.label_is == "wrong"


def sentence(verdict: str | None, label: Any, new_label: Any, labels: Iterable[str]) -> str:
    """A verdict in words; empty for none.

    >>> sentence("given", "cat", None, ()), sentence("several", "cat", None, ("a", "b"))
    ('the label is right (cat)', 'several fit: a, b')
    """
    if not isinstance(verdict, str) or verdict not in VERDICTS:
        return ""
    kind = VERDICTS[verdict]
    text = kind.sentence.format(new_label=new_label, labels=", ".join(labels))
    return f"{text} ({label})" if kind.true == "label" and label else text


def browser_table() -> list[dict[str, Any]]:
    """The table as the grid's scripts read it: one dict per verdict, its name and ``takes`` included."""
    return [{"name": name, "takes": kind.takes, **asdict(kind)} for name, kind in VERDICTS.items()]
