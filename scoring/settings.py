"""What each key of ``audit.toml`` may hold, for the keys that only need a kind and a range.

``check_kinds`` goes through the tables of ``KINDS``: (where, key) → what is allowed, and how to say what was needed. A
key that would be ignored, or would fail deep inside a command hours later, is refused when the audit is opened.

Inputs → outputs: the parsed file → nothing, or one ``HardlookError`` that names key, found and needed. Cost: none to speak
of. Limit: what depends on other files (paths, layers, names of scores) is checked where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scoring.tables import HardlookError

Allowed = Callable[[Any], bool]


def is_text(value: Any) -> bool:
    """A string with something in it."""
    return isinstance(value, str) and bool(value.strip())


def is_table(value: Any) -> bool:
    """A TOML table."""
    return isinstance(value, Mapping)


def is_number(value: Any) -> bool:
    """A finite number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def is_seed(value: Any) -> bool:
    """A whole number that every library takes as a seed (scikit-learn: below 2**32)."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32


def are_texts(value: Any) -> bool:
    """A list of strings, each with something in it."""
    return isinstance(value, list) and all(map(is_text, value))


TOP: dict[str, tuple[Allowed, str]] = {
    "id": (lambda value: is_text(value) or is_seed(value), "a name that stays"),
    "name": (is_text, "a title"),
    "seed": (is_seed, "a whole number from 0 to 4294967295"),
    "issues": (are_texts, 'a list such as ["bad image", "duplicate"]'),
    "policy": (is_table, "a table [policy]"),
    "truth": (is_table, "a table [truth] with path"),
}
ACCESS: dict[str, tuple[Allowed, str]] = {
    "proxies": (are_texts, 'a list of addresses such as ["10.0.0.5"]'),
    "user_header": (is_text, 'the name of a header such as "X-Forwarded-User"'),
    "url": (is_text, 'an address such as "https://audit.example.org"'),
    "claim": (is_text, 'the name of a claim such as "email"'),
}
TRUTH: dict[str, tuple[Allowed, str]] = {
    key: (is_text, "a string") for key in ("path", "id_column", "label_column")
}
RUN: dict[str, tuple[Allowed, str]] = {
    "transform": (lambda value: is_text(value) or is_table(value),
                  '"file.py:callable" or a table such as { resize = 64, mean = 0.5, std = 0.25 }'),
    "weights": (is_text, "the path of a checkpoint"),
    "layers": (lambda value: is_text(value) or are_texts(value) and bool(value), "a list of layer names or patterns"),
    "training": (is_table, "a table of training settings"),
    "scores": (lambda value: is_table(value) and all(map(is_table, value.values())),
               "one table of settings per score: [run.<name>.scores.<score>]"),
    "l2": (lambda value: is_number(value) and value >= 0, "the L2 penalty of the head, a number from 0"),
    "averaged": (lambda value: isinstance(value, bool), "true or false"),
}
MOVED = {
    "batch_size": "under [run.<name>.training] it is that of training, under [run.<name>.scores.vog] that of scoring",
    "embedding": "it is a setting of the score that needs it: [run.<name>.scores.vog]",
}
"""Keys that a run once accepted and never used, and where they have an effect."""


def check_kinds(config: Mapping[str, Any]) -> None:
    """Check every key that ``TOP``, ``ACCESS``, ``TRUTH`` and ``RUN`` know; raises ``HardlookError`` for the first one
    that does not hold what is needed."""
    _refuse_nul(config)
    _check("", config, TOP)
    _check("[access] ", config.get("access", {}), ACCESS)
    _check("[truth] ", config.get("truth", {}), TRUTH)
    if "truth" in config and "path" not in config["truth"]:
        raise HardlookError("audit.toml: [truth] has no path; name the CSV or Parquet file of verified labels")
    for name, run in config.get("run", {}).items():
        for key in run:
            if key in MOVED:
                raise HardlookError(f"audit.toml: [run.{name}] {key} has no effect there; {MOVED[key]}")
        _check(f"[run.{name}] ", run, RUN)


def _refuse_nul(value: Any, where: str = "") -> None:
    """No path, name or text can have a NUL character."""
    if isinstance(value, str) and "\0" in value:
        raise HardlookError(f"audit.toml: {where or 'a key'} holds {value!r:.80}, which has a NUL character; remove it")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_nul(key, where)
            _refuse_nul(item, f"{where}.{key}".lstrip("."))
    if isinstance(value, list):
        for item in value:
            _refuse_nul(item, where)


def _check(where: str, table: Any, kinds: Mapping[str, tuple[Allowed, str]]) -> None:
    if not isinstance(table, Mapping):
        raise HardlookError(f"audit.toml: {where.strip(' []')} = {table!r}; needed a table")
    for key, (allowed, needed) in kinds.items():
        if key in table and not allowed(table[key]):
            raise HardlookError(f"audit.toml: {where}{key} = {table[key]!r:.80}; needed {needed}")
