"""Values as TOML text.

Inputs → outputs: strings, numbers, booleans, lists and tables (nested ones inline) → text that ``tomllib`` reads back
as the same. Cost: none. Known limits: dates are not needed by any setting of ``audit.toml``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.data.labels import toml_text

BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_value(value: Any) -> str:
    """Returns one value as TOML.

    >>> toml_value({"a b": ['say "x"', 2, 0.5, True]})
    '{ "a b" = ["say \\\\"x\\\\"", 2, 0.5, true] }'
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return f'"{toml_text(value)}"'
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    raise HardlookError(f"{value!r:.80} ({type(value).__name__}) cannot stand in audit.toml; needed text or numbers")


def toml_key(key: object) -> str:
    """Returns a key as TOML: bare where it can be."""
    return str(key) if BARE.fullmatch(str(key)) else f'"{toml_text(str(key))}"'


def inline_table(option: str, given: str, example: str) -> dict[str, Any]:
    """Returns the table that an option of the command line names as TOML. Raises ``HardlookError`` for what is none.

    >>> inline_table("--arguments", "{ width = 8 }", "{ width = 8 }")
    {'width': 8}
    """
    try:
        found = tomllib.loads(f"table = {given}")["table"]
    except tomllib.TOMLDecodeError as error:
        raise HardlookError(f"{option} {given} is no table of TOML ({error}); write e.g. '{example}'") from error
    if not isinstance(found, dict):
        raise HardlookError(f"{option} {given}: needed a table '{example}'")
    return found


def toml_lines(table: Mapping[str, Any]) -> list[str]:
    """Returns the lines ``key = value`` of a table."""
    return [f"{toml_key(key)} = {toml_value(value)}" for key, value in table.items()]
