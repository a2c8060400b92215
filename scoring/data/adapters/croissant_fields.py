"""Fields and files of a Croissant description: what its JSON-LD says, without the data.

Inputs → outputs: objects of the description → ``Field``, ``Files``. Cost: none to speak of. Known limits: a source with
other transforms than one regular expression, or with a JSON path, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from scoring.audit.errors import HardlookError
from scoring.data.adapters.json_files import Json, objects, text

OF_MEDIA = {"image": ("ImageObject",), "text": ("Text",), "vector": ()}


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field: of the files of a set (``file_set``, their ``file_property``), or of a ``column`` of a ``table``.

    ``regex``: whose first group is the value. ``joins``: (table, column) that the field's value is looked up in."""

    name: str
    kinds: tuple[str, ...] = ()
    file_set: str | None = None
    file_property: str | None = None
    table: str | None = None
    column: str | None = None
    regex: str | None = None
    joins: tuple[str, str] | None = None

    @property
    def is_label(self) -> bool:
        """Returns whether its type says that it is a label."""
        return "Label" in self.kinds

    def holds(self, media: str) -> bool:
        """Returns whether its type is one of this kind of data."""
        return any(kind in self.kinds for kind in OF_MEDIA[media])

    def of_path(self, name: str) -> str | None:
        """Its value for a file of this path; None where its expression does not fit."""
        value = name.rsplit("/", 1)[-1] if self.file_property == "filename" else name
        if self.regex is None:
            return value
        found = re.search(self.regex, value)
        return None if found is None else next((group for group in found.groups() if group is not None), found[0])


@dataclass(frozen=True)
class Files:
    """The files of a set: patterns of their paths, and the archive that holds them."""

    includes: tuple[str, ...]
    archive: str | None


def read_fields(record_set: Mapping[str, Json]) -> list[Field]:
    """The fields of a record set; those without a source of their own are passed over."""
    return [field for each in objects(record_set.get("field")) if (field := _field(each)) is not None]


def files_of(content: Mapping[str, Json], own: str | None) -> Files:
    """The files of the set of this id. Raises ``HardlookError`` where the description has none."""
    found = next((one for one in objects(content.get("distribution")) if one.get("@id") == own), None)
    if found is None:
        raise HardlookError(f"the description has no file set {own!r} among its distribution; correct it")
    includes = found.get("includes")
    patterns = [str(each) for each in includes] if isinstance(includes, list) else [text(includes) or "*"]
    return Files(tuple(patterns), reference(found.get("containedIn")))


def reference(value: Json) -> str | None:
    """The id that an object, a list of one, or a text refers to.

    >>> reference({"@id": "a"}), reference([{"@id": "a"}]), reference("a"), reference(None)
    ('a', 'a', 'a', None)
    """
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    return text(value.get("@id")) if isinstance(value, dict) else text(value)


def _field(given: Mapping[str, Json]) -> Field | None:
    source = given.get("source")
    if not isinstance(source, dict):
        return None
    name = text(given.get("name")) or (text(given.get("@id")) or "").rsplit("/", 1)[-1]
    extract = source.get("extract")
    extract = extract if isinstance(extract, dict) else {}
    kinds = given.get("dataType")
    types = [str(each) for each in kinds] if isinstance(kinds, list) else [text(kinds) or ""]
    table = reference(source.get("fileObject"))
    return Field(
        name=name.rsplit("/", 1)[-1],
        kinds=tuple(re.split(r"[:/]", kind)[-1] for kind in types),
        file_set=reference(source.get("fileSet")) if table is None else None,
        file_property=text(extract.get("fileProperty")),
        table=table,
        column=text(extract.get("column")),
        regex=_regex(name, source.get("transform")),
        joins=_joins(given.get("references")),
    )


def _regex(name: str, transform: Json) -> str | None:
    steps = transform if isinstance(transform, list) else [transform] if transform is not None else []
    if not steps:
        return None
    found = steps[0].get("regex") if isinstance(steps[0], dict) else None
    if len(steps) > 1 or not isinstance(found, str):
        raise HardlookError(f"field {name!r} has a transform that is not one regex; needed that, or a table of labels")
    return found


def _joins(given: Json) -> tuple[str, str] | None:
    if not isinstance(given, dict):
        return None
    own, extract = reference(given.get("fileObject")), given.get("extract")
    column = text(extract.get("column")) if isinstance(extract, dict) else None
    return None if own is None or column is None else (own, column)
