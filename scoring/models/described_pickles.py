"""What a pickled checkpoint says of itself, from the stand-ins of its objects: plain values alone, nothing is built.

Hyper-parameters that Lightning kept in a container of its own, the description of an Ultralytics network, the
vocabulary of a fastai learner. `scoring.models.conversion` writes it as JSON beside the weights, where
`scoring.models.checkpoint_facts` finds it. An object that is no container stays one, and is named as dropped: its parts
are not the value.

What the inert unpickler gave → (facts by key, names of what was dropped). Cost: a walk over the first levels. Known
limits: containers are told by the names of their classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scoring.models.checkpoint_facts import plain_facts
from scoring.models.unpickling import StandIn

CONTAINERS = ("AttributeDict", "Namespace", "SimpleNamespace", "IterableSimpleNamespace", "AttrDict", "Box", "EasyDict")
"""Classes that hold named values and nothing else."""

LISTS = ("L", "CategoryMap")
"""Classes of fastai that hold a list."""

DEEPEST = 16


def described(raw: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The facts of a pickle that was unpickled inertly, and the names of what is no plain value."""
    top = raw if isinstance(raw, Mapping) else {}
    facts, dropped = plain_facts({key: _opened(value) for key, value in top.items()})
    model = top.get("model") if top.get("ema") is None else top.get("ema")
    if isinstance(model, StandIn) and "ultralytics" in type(model).__module__:
        facts |= _ultralytics(model, facts.get("train_args"))
    vocab = next(_vocabularies(raw, set()), None) if isinstance(raw, StandIn) and _is(raw, "Learner") else None
    if vocab is not None:
        facts |= plain_facts({"tool": "fastai", "vocab": vocab})[0]
    return facts, dropped


def _ultralytics(model: StandIn, trained: Any) -> dict[str, Any]:
    """Network, class names and image size of a model of Ultralytics."""
    own = vars(model)
    names = own.get("names")
    listed = [names[number] for number in sorted(names)] if isinstance(names, Mapping) else names
    size = trained.get("imgsz") if isinstance(trained, Mapping) else None
    task = trained.get("task") if isinstance(trained, Mapping) else None
    found = {"tool": f"ultralytics {task or ''}".strip(), "yaml": own.get("yaml"), "names": listed, "imgsz": size}
    return plain_facts({key: value for key, value in found.items() if value is not None})[0]


def _vocabularies(value: Any, seen: set[int], depth: int = 0) -> Iterator[list[Any]]:
    """Every ``vocab`` among the attributes of stand-ins, each object looked at once."""
    if depth > DEEPEST or id(value) in seen:
        return
    seen.add(id(value))
    parts: list[Any] = []
    if isinstance(value, StandIn):
        vocab = _opened(vars(value).get("vocab"))
        if isinstance(vocab, list) and vocab:
            yield vocab
        parts = [part for name, part in vars(value).items() if name != "_modules"]
    elif isinstance(value, (Mapping, list, tuple)):
        parts = list(value.values()) if isinstance(value, Mapping) else list(value)
    for part in parts:
        yield from _vocabularies(part, seen, depth + 1)


def _is(value: StandIn, name: str) -> bool:
    return type(value).__name__ == name


def _opened(value: Any, depth: int = 0) -> Any:
    """Containers as mappings and lists, paths as text; any other object as it is, which is no plain value."""
    if depth > DEEPEST:
        return value
    if isinstance(value, StandIn):
        own = vars(value)
        if type(value).__name__ in CONTAINERS:
            named = {name: item for name, item in own.items() if name not in ("_parts", "_items")}
            return {str(name): _opened(item, depth + 1) for name, item in {**named, **own.get("_items", {})}.items()}
        if type(value).__name__ in LISTS:
            items = _opened(own.get("items", own["_parts"]), depth + 1)
            return items if isinstance(items, list) else value
        if type(value).__module__.startswith("pathlib"):
            return "/".join(map(str, own["_parts"])).replace("//", "/")
        return value
    if isinstance(value, Mapping):
        return {name: _opened(item, depth + 1) for name, item in value.items()}
    return [_opened(item, depth + 1) for item in value] if isinstance(value, (list, tuple)) else value
