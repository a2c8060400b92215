"""Selects the state dict in a checkpoint: the trained weights or their moving average.

The content of a file (a mapping) → a `StateDict`: tensors, where in the file they were, whether they are the
trained weights ("plain") or an average of them over the training ("ema"), the epoch and step stated there.
The content is a state dict itself, or holds one under a key that training scripts use (``PLAIN``, ``EMA``).

Some tools put the average where the trained weights are looked for, so that their files can be deployed as
they are: Lightning's `WeightAveraging`, mmengine's `EMAHook` and Composer's `EMA` swap the two while they
save, and Ultralytics keeps the average alone at the end (``_unswapped``). A state dict of
`torch.optim.swa_utils.AveragedModel` tells itself by its counter ``n_averaged``.

Cost: tensors are read only where two state dicts must be compared. Known limits: those of
`scoring.models.tensors`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scoring.audit.errors import HardlookError
from scoring.models.tensors import Tensors, refuse_unusual

Number = int | float

PLAIN = (
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "model_state",
)
"""Where training scripts keep the weights that were trained, in order of preference."""

EMA = ("state_dict_ema", "ema_state_dict", "model_ema", "ema", "ema_model", "ema_weights", "params_ema")
"""Where they keep the exponential moving average of those weights, in order of preference."""

EMA_NAME = re.compile(r"(^|[._])(ema|averaged?|shadow|swa)([._]|$)")
"""Part of a key, or of a prefix, under which a training script keeps averaged weights beside the trained
ones."""

OUTER = ("state", "app")
"""Where Composer and torch.distributed.checkpoint keep everything, the weights one level further down."""

EPOCHS = ("epoch", "epochs", "current_epoch")
STEPS = ("global_step", "step", "iteration", "iter", "steps", "train_step", "num_steps")


@dataclass(frozen=True)
class StateDict:
    """The tensors of one checkpoint, as named in it, and where they came from.

    ``taken`` is the key that held them ("" for the file itself); ``kind`` is "plain" or "ema"; ``notes`` are
    sentences for the user.
    """

    path: Path
    tensors: Tensors
    taken: str = ""
    kind: str = "plain"
    epoch: Number | None = None
    step: Number | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Held:
    """One state dict inside a file: its key, its tensors, and "plain", "ema" or "" where nothing tells."""

    key: str
    tensors: Tensors
    kind: str


def pick_state_dict(path: Path, content: Any, stated: Mapping[str, Any], weights: str) -> StateDict:
    """Find the tensors in what a file holds: itself a state dict, or a dict with one under a known name.

    ``stated`` is what the file says of itself outside the content; ``weights`` is "plain" or "ema".
    """
    if not isinstance(content, Mapping):
        raise HardlookError(
            f"{path} holds a {type(content).__name__}; needed a state dict: torch.save(model.state_dict(), path)"
        )
    stated = {**_meta(content), **stated}
    held = _state_dicts(content, stated)
    if held:
        taken, notes = _choose(path, held, weights)
    else:
        taken, notes = _whole_file(path, content, stated, weights)
    _refuse_none(path, content, taken.tensors)
    refuse_unusual(path, taken.tensors)
    kind = taken.kind or "plain"
    return StateDict(path, taken.tensors, taken.key, kind, number(stated, EPOCHS), number(stated, STEPS), notes)


def holds_both(content: Any) -> bool:
    """Returns whether a file's content has the trained weights and their average under keys of their own."""
    held = _state_dicts(content, _meta(content)) if isinstance(content, Mapping) else []
    return {"plain", "ema"} <= {each.kind for each in held}


def number(stated: Mapping[str, Any], names: Iterable[str]) -> Number | None:
    """The first of these entries that is a number: plain, a tensor of one element, or (safetensors) text.

    >>> number({"epoch": torch.tensor(3), "step": "70"}, ["step", "epoch"])
    70
    """
    for name in names:
        value = stated.get(name)
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value):
            value = float(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            return value
        if isinstance(value, float) and math.isfinite(value):
            return int(value) if value.is_integer() else value
    return None


# -- what a mapping holds ------------------------------------------------------------------------------------


def _meta(content: Mapping[str, Any]) -> dict[str, Any]:
    """Epoch and step, at the top or under ``meta`` (OpenMMLab)."""
    inner = content.get("meta")
    return {**(inner if isinstance(inner, Mapping) else {}), **content}


def _is_state_dict(value: Any) -> bool:
    """A non-empty mapping from names to tensors; extra state of modules may be anything."""
    if not isinstance(value, Mapping) or not value or not all(isinstance(name, str) for name in value):
        return False
    beside = ("_extra_state", "_packed_params.dtype")
    rest = [item for name, item in value.items() if not name.endswith(beside) and item is not None]
    return bool(rest) and all(isinstance(item, torch.Tensor) or _is_packed(item) for item in rest)


def _is_packed(value: Any) -> bool:
    """Returns whether a value is what torch.ao keeps in the place of weight and bias: (quantised or packed weight,
    bias).
    """
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], torch.Tensor)


def _own_tensors(content: Mapping[str, Any]) -> Tensors:
    """The tensors of a mapping, without an epoch or step that is kept as a tensor beside them."""
    named = {name: value[0] if _is_packed(value) else value for name, value in content.items() if isinstance(name, str)}
    return {name: item for name, item in named.items() if isinstance(item, torch.Tensor) and name not in EPOCHS + STEPS}


def _state_dicts(content: Mapping[str, Any], stated: Mapping[str, Any]) -> list[_Held]:
    """The state dicts inside a mapping, or one level further down under a known name; best known names
    first.
    """
    found: dict[str, Tensors] = {}
    for key, value in content.items():
        if _is_state_dict(value):
            found[str(key)] = _own_tensors(value)
        elif isinstance(value, Mapping) and key in PLAIN + EMA + OUTER:
            inner = [name for name in PLAIN if _is_state_dict(value.get(name))]
            found.update({f"{key}.{name}": _own_tensors(value[name]) for name in inner[:1]})
    ranks = {name: rank for rank, name in enumerate(PLAIN + EMA + OUTER)}
    keys = sorted(found, key=lambda key: ranks.get(key.partition(".")[0], len(ranks)))
    return _unswapped(content, stated, [_Held(key, found[key], _kind_of(key, found[key])) for key in keys])


def _kind_of(key: str, tensors: Tensors) -> str:
    """ "ema" or "plain" by the key, or by the counter of an AveragedModel; "" where neither tells."""
    outer = key.partition(".")[0]
    if outer in EMA or EMA_NAME.search(key) or "n_averaged" in tensors:
        return "ema"
    return "plain" if outer in PLAIN + OUTER else ""


def _unswapped(content: Mapping[str, Any], stated: Mapping[str, Any], held: list[_Held]) -> list[_Held]:
    """The state dicts by what they hold, for the tools that put the average where the trained weights are
    looked for.

    Lightning's ``WeightAveraging`` keeps the trained ones as ``current_model_state``; mmengine's ``EMAHook``
    as ``ema_state_dict``; Composer's ``EMA``, while ``ema_weights_active``, as parameters in the state of
    the algorithm; Ultralytics puts the average in the place of the model when a training ends, and drops the
    trained ones.
    """
    keys = {each.key: each for each in held}
    kinds: dict[str, str] = {}
    if {"current_model_state", "state_dict"} <= keys.keys():
        kinds = {"current_model_state": "plain", "state_dict": "ema"}
    elif "mmengine_version" in stated and {"ema_state_dict", "state_dict"} <= keys.keys():
        kinds = {"ema_state_dict": "plain", "state_dict": "ema"}
    elif "state.model" in keys and (found := _composer_average(content["state"])) is not None:
        active, other = found
        kinds = {
            "state.model": "ema" if active else "plain",
            "state.algorithms.EMA": "plain" if active else "ema",
        }
        held = [*held, _Held("state.algorithms.EMA", {**keys["state.model"].tensors, **other}, "")]
    elif {"ema", "updates", "train_args"} <= content.keys() and content["ema"] is None:
        kinds = {"model": "ema"}
    return [replace(each, kind=kinds.get(each.key, each.kind)) for each in held]


def _composer_average(state: Mapping[str, Any]) -> tuple[bool, Tensors] | None:
    """Composer: whether ``state.model`` holds the average, and the tensors of the other kind; None without
    EMA.
    """
    algorithms = state.get("algorithms") or ()
    pairs = algorithms.items() if isinstance(algorithms, Mapping) else [pair for pair in algorithms if len(pair) == 2]
    own = next((own for name, own in pairs if name == "EMA" and isinstance(own, Mapping)), {})
    kept = own.get("ema_model")
    if not own.get("ema_started") or not isinstance(kept, Mapping):
        return None
    tensors = {**kept.get("named_parameters_dict", {}), **kept.get("named_buffers_dict", {})}
    return own.get("ema_weights_active") is True, _own_tensors(tensors)


# -- trained or averaged -------------------------------------------------------------------------------------


def _whole_file(
    path: Path, content: Mapping[str, Any], stated: Mapping[str, Any], weights: str
) -> tuple[_Held, tuple[str, ...]]:
    """A file that is one state dict itself; an earlier conversion states which weights it took."""
    tensors = _own_tensors(content)
    kind = "ema" if stated.get("hardlook_kind") == "ema" else _kind_of("", tensors)
    if weights == "ema" and kind != "ema" and tensors and not names_average(tensors):
        raise HardlookError(
            f"{path} holds no EMA weights; found {_shown(tensors)}; use weights = 'plain' (averaged = false in "
            "audit.toml)"
        )
    alone = kind == "ema" and weights == "plain"
    return _Held("", tensors, kind), ("used the EMA weights, because the file holds no others",) if alone else ()


def _choose(path: Path, held: list[_Held], weights: str) -> tuple[_Held, tuple[str, ...]]:
    """Returns which of the state dicts in a file to take, and notes."""
    ema = [each for each in held if each.kind == "ema"]
    plain = [each for each in held if each.kind == "plain"]
    unknown = [each for each in held if not each.kind]
    if not plain and not ema and len(unknown) > 1:
        raise HardlookError(
            f"{path} holds several state dicts ({_keys(held)}); keep the one to audit under the key 'state_dict'"
        )
    if weights == "ema" and not ema and not any(names_average(each.tensors) for each in held):
        raise HardlookError(
            f"{path} holds no EMA weights; found {_keys(held)}; use weights = 'plain' (averaged = false in audit.toml)"
        )
    same = (ema or plain or unknown) if weights == "ema" else (plain or ema or unknown)
    taken = same[0]
    _refuse_twins(path, same)
    others = [each for each in unknown if each is not taken and _shapes(each) == _shapes(taken)]
    notes = [f"used {taken.key}, not {_keys(others)}"] if others else []
    if taken.kind == "ema":
        only = weights == "plain"
        notes.append(
            f"used the EMA weights ({taken.key}), because the file holds no others"
            if only
            else f"used the EMA weights ({taken.key})"
        )
    elif ema:
        notes.append(f"used the trained weights ({taken.key}), not the EMA weights ({ema[0].key})")
    return taken, tuple(notes)


def names_average(tensors: Iterable[str]) -> bool:
    """Returns whether names have a part that speaks of an average, as ``ema_model.fc.weight``.

    >>> names_average(["fc.weight", "ema_model.fc.weight"]), names_average(["schema.weight"])
    (True, False)
    """
    return any(EMA_NAME.search(name.rpartition(".")[0]) for name in tensors)


def _keys(held: Iterable[_Held]) -> str:
    return ", ".join(each.key for each in held)


def _shapes(held: _Held) -> list[tuple[int, ...]]:
    return sorted(tuple(tensor.shape) for tensor in held.tensors.values())


def _refuse_twins(path: Path, same: list[_Held]) -> None:
    """Two state dicts of one model under keys that mean the same: nobody can tell which one to audit."""
    first = same[0]
    for other in same[1:]:
        equal = other.tensors.keys() == first.tensors.keys() and all(
            torch.equal(tensor, first.tensors[name]) for name, tensor in other.tensors.items()
        )
        if not equal and _shapes(other) == _shapes(first):
            raise HardlookError(
                f"{path} holds two state dicts of the same shapes ({first.key} and {other.key}); save only the one to "
                "audit: torch.save(model.state_dict(), path)"
            )


def _refuse_none(path: Path, content: Mapping[Any, Any], tensors: Tensors) -> None:
    """A file without any weights, named for what it holds."""
    if tensors:
        return
    if any("param_groups" in value for value in (content, *content.values()) if isinstance(value, Mapping)):
        raise HardlookError(
            f"{path} holds the state of an optimizer and no weights; needed the model's: "
            "torch.save(model.state_dict(), path)"
        )
    raise HardlookError(f"{path} holds no weights; found {_shown(content)}, needed a state dict")


def _shown(content: Mapping[Any, Any]) -> str:
    """The keys of a file, for an error message."""
    keys = [str(key) for key in content]
    return f"the keys {', '.join(keys[:8])}{', …' if len(keys) > 8 else ''}" if keys else "an empty dict"
