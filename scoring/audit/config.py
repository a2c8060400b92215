"""The settings that ``audit.toml`` may hold, checked key by key.

``check_config`` goes through the whole file: keys that mean nothing here, names of classes, sources, runs
(also those that are ``like`` another one) and the goal. ``check_kinds`` goes through the tables of ``TOP``,
``ACCESS``, ``TRUTH`` and ``RUN``: key → what is allowed, and how to say what was needed. A key that would be
ignored, or would fail deep inside a command hours later, is refused when the audit is opened.

Inputs → outputs: the parsed file → the same with ``like`` resolved, or one ``HardlookError`` that names key,
found and needed. Cost: none to speak of. Limit: what depends on other files (paths, layers, names of scores)
is checked where it is used.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.audit.roles import check_roles
from scoring.audit.run import can_name_run

FORMAT = 1
SPLITS = ("train", "test", "pool")
MEDIA = ("image", "vector", "text")
TOP_KEYS = (
    "format",
    "id",
    "name",
    "media",
    "classes",
    "issues",
    "data",
    "run",
    "truth",
    "policy",
    "goal",
    "roles",
    "access",
    "seed",
)
RUN_KEYS = (
    "model",
    "arguments",
    "transform",
    "checkpoints",
    "weights",
    "expected_accuracy",
    "layers",
    "training",
    "description",
    "l2",
    "scores",
    "averaged",
    "output",
    "output_item",
    "like",
)
ACCESS_KEYS = ("proxies", "user_header", "url", "claim")
TRUTH_KEYS = ("path", "id_column", "label_column")
GOAL_KEYS = ("error_rate", "confidence", "decisions", "controls")

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
    "id": (lambda value: is_text(value) or is_seed(value), "a permanent name"),
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
TRUTH: dict[str, tuple[Allowed, str]] = dict.fromkeys(("path", "id_column", "label_column"), (is_text, "a string"))
OUTPUTS = ("logits", "log_probabilities", "probabilities", "sigmoid", "logit", "probability")
RUN: dict[str, tuple[Allowed, str]] = {
    "output": (lambda value: value in OUTPUTS, f"what the model returns, one of {', '.join(OUTPUTS)}"),
    "output_item": (
        lambda value: is_text(value) or is_seed(value),
        "the index (tuple) or key (mapping) of the logits in what the model returns",
    ),
    "transform": (
        lambda value: is_text(value) or is_table(value),
        '"file.py:callable" or a table such as { resize = 64, mean = 0.5, std = 0.25 }',
    ),
    "checkpoints": (
        lambda value: is_text(value) or (are_texts(value) and bool(value)),
        'a glob such as "checkpoints/*.pt", or a list of them',
    ),
    "weights": (is_text, "the path of a checkpoint"),
    "layers": (lambda value: is_text(value) or (are_texts(value) and bool(value)), "a list of layer names or patterns"),
    "training": (is_table, "a table of training settings"),
    "scores": (
        lambda value: is_table(value) and all(map(is_table, value.values())),
        "one table of settings per score: [run.<name>.scores.<score>]",
    ),
    "l2": (lambda value: is_number(value) and value >= 0, "the L2 penalty of the head, a number of at least 0"),
    "averaged": (lambda value: isinstance(value, bool), "true or false"),
}
KINDS_OF_WEIGHTS = (
    "ema",
    "averaged",
    "average",
    "swa",
    "plain",
    "raw",
    "model_ema",
    "state_dict_ema",
    "ema_state_dict",
)
"""What people write as ``weights`` where they mean the kind, which is ``averaged``."""

MOVED = {
    "batch_size": "set it under [run.<name>.training] for training, or under [run.<name>.scores.vog] for scoring",
    "embedding": "set it under the score that uses it: [run.<name>.scores.vog]",
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
        if str(run.get("weights", "")).strip().lower() in KINDS_OF_WEIGHTS:
            raise HardlookError(
                f"audit.toml: [run.{name}] weights = {run['weights']!r} names a kind of weights, but weights is the "
                "path of a checkpoint to train from; remove it and write averaged = true to audit the moving average "
                "of the weights (EMA), or averaged = false to audit the trained weights"
            )
        _check(f"[run.{name}] ", run, RUN)


def _refuse_nul(value: Any, where: str = "") -> None:
    """No path, name or text can have a NUL character."""
    if isinstance(value, str) and "\0" in value:
        raise HardlookError(
            f"audit.toml: {where or 'a key'} holds {value!r:.80}, which contains a NUL character; remove it"
        )
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


# -- the whole file ------------------------------------------------------------------------------------------


def check_config(config: dict[str, Any]) -> dict[str, Any]:
    """Check ``audit.toml`` key by key; returns it. Errors name the key, what was found and what was needed."""
    found = config.get("format")
    if found is None:
        raise HardlookError(f"audit.toml has no format; write `format = {FORMAT}` as its first line")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise HardlookError(f"audit.toml: format = {found!r}; needed {FORMAT}")
    if found > FORMAT:
        raise HardlookError(
            f"audit.toml has format {found}, but this version of hardlook reads formats up to {FORMAT}; upgrade "
            "hardlook"
        )
    _unknown("the top level", config, TOP_KEYS)
    for name, run in _want("", "run", config.get("run", {}), dict, "tables [run.<name>]").items():
        _want("run.", name, run, dict, f"a table [run.{name}]")
    check_kinds(config)
    if config.get("media", "image") not in MEDIA:
        raise HardlookError(f"audit.toml: media = {config['media']!r}; needed one of {', '.join(MEDIA)}")
    _check_classes(config.get("classes", []))
    _check_data(config.get("data"))
    for name, run in config.get("run", {}).items():
        _check_run(name, run)
    check_roles(config.get("roles", {}))
    _unknown("[access]", config.get("access", {}), ACCESS_KEYS)
    if "truth" in config:
        _unknown("[truth]", config["truth"], TRUTH_KEYS)
    if "goal" in config:
        _check_goal(_want("", "goal", config["goal"], dict, "a table [goal]"))
    runs = config.get("run", {})
    return {**config, "run": {name: _like(name, runs) for name in runs}} if runs else config


def _like(name: str, runs: Mapping[str, Any]) -> dict[str, Any]:
    """A run's table with what it takes over from the run that it is ``like``: tables are merged key by key, other keys
    are its own where it has them. Checkpoints are never taken over: another training has its own."""
    own = dict(runs[name])
    other = own.pop("like", None)
    if other is None:
        return own
    if other not in runs or "like" in runs[other]:
        needed = ", ".join(repr(run) for run in runs if "like" not in runs[run]) or "none"
        raise HardlookError(
            f"audit.toml: [run.{name}] like = {other!r}; needed the name of a run that has its own table: {needed}"
        )
    base = runs[other]
    merged = {
        key: {**value, **own[key]}
        if isinstance(value, dict) and isinstance(own.get(key), dict)
        else own.get(key, value)
        for key, value in base.items()
        if key != "checkpoints"
    }
    return {**own, **merged, "checkpoints": own.get("checkpoints", f"checkpoints/{name}/*.pt")}


def _check_classes(classes: Any) -> None:
    _want("", "classes", classes, list, "a list of class names in the order of the model's outputs")
    for name in classes:
        if not isinstance(name, str) or not name:
            quoted = ", ".join(json.dumps(str(one), ensure_ascii=False) for one in classes[:3])
            advice = "" if name == "" else f": classes = [{quoted}{', …' if len(classes) > 3 else ''}]"
            raise HardlookError(f"audit.toml: classes holds {name!r}; needed non-empty strings{advice}")
    twice = {name for name in classes if classes.count(name) > 1} if len(set(classes)) < len(classes) else ()
    if twice:
        raise HardlookError(
            f"audit.toml: class {sorted(twice)[0]!r} is listed twice in classes; class names must be unique"
        )


def _check_data(data: Any) -> None:
    if not isinstance(data, list) or not data:
        raise HardlookError("audit.toml names no data; add a [[data]] table with split and path")
    for number, source in enumerate(data):
        _want(
            "",
            f"data[{number}]",
            source,
            dict,
            'a table: [[data]] on a line of its own, below it path = "…" and split = "…"',
        )
        split = source.get("split")
        if split is not None and (not isinstance(split, str) or split not in SPLITS):
            raise HardlookError(f"audit.toml: data[{number}].split = {split!r}; needed one of {', '.join(SPLITS)}")


def _check_goal(goal: dict[str, Any]) -> None:
    _unknown("[goal]", goal, GOAL_KEYS)
    for key in ("error_rate", "confidence"):
        if key in goal and not 0 < _want("[goal] ", key, goal[key], float, "a share such as 0.05") < 1:
            raise HardlookError(f"audit.toml: [goal] {key} = {goal[key]}; needed a share between 0 and 1")
    for key in ("decisions", "controls"):
        if key in goal and _want("[goal] ", key, goal[key], int, "a whole number such as 300") < 1:
            raise HardlookError(f"audit.toml: [goal] {key} = {goal[key]}; needed a whole number from 1")


def _check_run(name: str, run: Any) -> None:
    where = f"[run.{name}] "
    if not can_name_run(name):
        raise HardlookError(
            f"audit.toml: {name!r} cannot be the name of a run, which becomes a folder name; use letters and digits"
        )
    _unknown(where.strip(), run, RUN_KEYS)
    for key in ("model", "like"):
        if key in run:
            _want(where, key, run[key], str, "a string")
    if "expected_accuracy" in run:
        value = _want(where, "expected_accuracy", run["expected_accuracy"], (int, float), "a share such as 0.93")
        if not 0 <= value <= 1:
            raise HardlookError(f"audit.toml: {where}expected_accuracy = {value}; needed a share between 0 and 1")
    if "arguments" in run:
        _want(where, "arguments", run["arguments"], dict, "a table of keyword arguments")


def _unknown(where: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuse keys that mean nothing here, naming the close ones."""
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys are {', '.join(known)}"
            raise HardlookError(f"audit.toml: {where} has an unknown key {key!r}; {hint}")


def _want(where: str, key: str, value: Any, kind: type | tuple[type, ...], needed: str) -> Any:
    """``value`` if it is of the kind, else an error that says what was found and what was needed."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise HardlookError(f"audit.toml: {where}{key} = {value!r}; needed {needed}")
    return value
