"""The sources of an audit as ingest takes them: each with its listing, ids and class names, made once, then only read.

``list_sources`` opens and lists them; ``with_labels`` and ``with_ids`` (``kept_ids``) add what reading needs.

Inputs → outputs: an audit → ``ListedSource`` per ``[[data]]`` table. Cost: one walk or one read of labels per source.
Known limits: labels that come with the items are known only once a row is read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.data.adapters import open_sources
from scoring.data.adapters.base import Listing, Source
from scoring.data.class_order import class_names, classes_line, describe_order
from scoring.data.example_reader import recipe
from scoring.data.labels import Labels, is_none, plain


@dataclass(frozen=True, kw_only=True)
class ListedSource:
    """One source before its rows are read. ``ids``: None where they come from content; ``labels``: class names, None
    where only reading tells; ``method``: what the images depend on besides content (``recipe``)."""

    source: Source
    listing: Listing
    method: str
    ids: list[str] | None = None
    labels: list[str | None] | None = None

    def __len__(self) -> int:
        return len(self.listing)

    def is_file(self, row: int) -> bool:
        """Returns whether a row is named by a file."""
        return self.listing.ids is None and self.listing.path(row) is not None


def list_sources(audit: Audit) -> list[ListedSource]:
    """Every ``[[data]]`` table, opened and listed. Raises ``HardlookError`` where there is no example, or no class."""
    listed = listed_without_classes(audit)
    need_classes(audit, listed)
    return listed


def listed_without_classes(audit: Audit) -> list[ListedSource]:
    """The same, of settings that name no classes yet."""
    return [
        ListedSource(source=source, listing=source.listing(), method=recipe(source)) for source in open_sources(audit)
    ]


# ----------------------------------------------------------------------------------------------------- labels


def need_classes(audit: Audit, listed: Sequence[ListedSource]) -> None:
    """Raises ``HardlookError`` without examples; without classes in audit.toml, one that has the line to paste."""
    if not sum(map(len, listed)):
        skipped = ", ".join([name for each in listed for name in each.listing.skipped][:3])
        hint = f"; skipped files of other types: {skipped}" if skipped else ""
        raise HardlookError(f"the [[data]] tables of {audit.root / 'audit.toml'} hold no examples{hint}")
    if audit.classes:
        return
    found, order, as_text, renamed = _class_facts(listed)
    if not order and all(is_none(plain(label)) for label in found):
        hint = next(
            (each.listing.unlabelled for each in listed if each.source.split != "pool"),
            "all examples are in the pool",
        )
        raise HardlookError(
            f"audit.toml has no classes, and no example has a label to derive them from: the first {hint}; write "
            "classes = […] in the order of the model's outputs"
        )
    raise HardlookError(
        "audit.toml has no classes; add this line above the first table, in the order of the model's outputs:\n"
        f"{classes_line(found, order, as_text, renamed)}\n"
        f"Here they are {describe_order(found, order, as_text)}; if training used another order, use that order"
    )


def derived_classes(listed: Sequence[ListedSource]) -> list[str]:
    """Class names in the order of the data's usual library (``class_order``); none where no example has a label."""
    return class_names(*_class_facts(listed))


def _class_facts(listed: Sequence[ListedSource]) -> tuple[list[Any], list[str] | None, bool, dict[str, str]]:
    """Returns what the order of classes follows from: raw labels, the data's own class names, whether its library
    sorts numbers as text, and ``label_map``."""
    sources = [each.source for each in listed]
    found = [label for each in listed for label in _raw_labels(each)]
    order = next((names for names in (source.names_of_classes() for source in sources) if names), None)
    renamed = {key: value for source in sources for key, value in (source.label_map or {}).items()}
    return found, order, sources[0].sorts_as_text, renamed


def _raw_labels(each: ListedSource) -> list[Any]:
    """The labels of a source as it has them; those that come with the items are read."""
    if each.listing.labels is not None:
        return each.listing.labels
    if each.source.labels_from_items and each.source.split != "pool":
        return [_raw_label(each.source, row) for row in range(len(each))]
    return []


def _raw_label(source: Source, row: int) -> Any:
    """Returns an item's raw label; None for an unreadable item, which is reported when it is read."""
    try:
        return source.item(row)[1]
    except Exception:  # noqa: BLE001  code of others; the reader of items keeps the reason
        return None


def labels_of(source: Source) -> Labels:
    """Returns how one source's raw labels become class names."""
    return Labels(source.classes, source.label_map, source.names_of_classes())


def class_name(labels: Labels, raw: Any, split: str, source: Source, who: str) -> str | None:
    """A raw label → class name, none in the pool; an unknown one is an error that names it and the example."""
    if split == "pool":
        return None
    try:
        return labels.name(raw)
    except HardlookError as error:
        raise HardlookError(f"label of example {who} in data[{source.number}]: {error}") from error


def with_labels(each: ListedSource) -> ListedSource:
    """The same with class names, where labels are known before reading, so that a wrong one fails at once."""
    if each.listing.labels is None:
        return each
    known = labels_of(each.source)
    names = [
        class_name(known, raw, split, each.source, repr(each.ids[row]) if each.ids else f"in row {row}")
        for row, (raw, split) in enumerate(zip(each.listing.labels, each.listing.splits, strict=True))
    ]
    each.listing.notes.extend([known.note] if known.note else [])
    return replace(each, labels=names)


def reference(audit: Audit, path: str | None) -> str | None:
    """A path as the table keeps it: relative inside the audit's folder, absolute outside; links stay as written."""
    if path is None:
        return None
    text = os.path.relpath(path, audit.root) if path.startswith(f"{audit.root}{os.sep}") else path
    return text.replace(os.sep, "/").encode("utf8", "backslashreplace").decode("utf8")
