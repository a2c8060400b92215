"""Hugging Face's metadata in the schema of a Parquet file: image columns and class names.

``datasets`` keeps its features as JSON under the key ``huggingface`` of the Arrow schema, and every Parquet file of the
Hub that it wrote carries them. Labels of a ``ClassLabel`` are stored as numbers, which mean these names and no place in
audit.toml's ``classes``.

Inputs → outputs: an Arrow schema → features, names. Cost: none to speak of. Known limits: names that stand only in the
README of a repository are not in the file, and not known here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import pyarrow as pa

from scoring.audit.errors import HardlookError

LISTS = ("List", "LargeList", "Sequence")


def features(schema: pa.Schema) -> dict[str, Any]:
    """Column → feature, as ``datasets`` wrote it; empty where it wrote none.

    >>> told = {"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}
    >>> schema = pa.schema([("label", pa.int64())], metadata={"huggingface": json.dumps(told)})
    >>> class_names(features(schema)["label"])
    ['no', 'yes']
    """
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):  # no JSON, or of another form: then it says nothing
        return {}
    return (
        {name: feature for name, feature in found.items() if name in schema.names} if isinstance(found, Mapping) else {}
    )


def is_kind(feature: Any, kind: str) -> TypeGuard[Mapping[str, Any]]:
    """Returns whether a feature is an ``Image``, a ``ClassLabel``, …"""
    return isinstance(feature, Mapping) and feature.get("_type") == kind


def class_names(feature: Any) -> list[str] | None:
    """The names of a ``ClassLabel``, or of a list of them."""
    if isinstance(feature, Mapping) and feature.get("_type") in LISTS:
        feature = feature.get("feature")
    names = feature.get("names") if is_kind(feature, "ClassLabel") else None
    return [str(name) for name in names] if isinstance(names, list) else None


def named(value: Any, names: Sequence[str] | None) -> Any:
    """A number of a ``ClassLabel`` as its name, a list of one likewise; null, −1 and what is no number as it is.

    >>> named(1, ["no", "yes"]), named([1], ["no", "yes"]), named(None, ["no", "yes"]), named(1, None)
    ('yes', 'yes', None, 1)
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not names or not isinstance(value, int) or value == -1:
        return value
    if not 0 <= value < len(names):
        raise HardlookError(
            f"{value} is not an index into the {len(names)} names of its ClassLabel; correct the column"
        )
    return names[value]
