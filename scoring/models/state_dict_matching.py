"""Loads weights into a model: matches names, checks everything, then copies all at once.

A model and a `StateDict` → the same tensors under the model's names. A prefix (``model.``, ``module.``, any
depth) is whatever makes the most of the file's names equal names of the model, so a model that truly has
``model.`` names is matched as it is. A missing or unknown name, a wrong shape, another number of classes and
a weight that is not finite are errors that name file, key, found and needed; the model is untouched until all
of it fits.

Cost: one pass over the names and one over the values. Known limits: parameters that a library renamed between
versions are not translated, but for those of Hugging Face models (`scoring.models.pretrained`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from scoring.audit.errors import HardlookError
from scoring.models.eval_mode import load_weights
from scoring.models.pretrained import translated
from scoring.models.refused_formats import (
    FACTORY,
    listed,
    refuse_infinite,
    refuse_kinds,
    refuse_missing,
    refuse_shapes,
    refuse_unloaded,
    refuse_without_values,
)
from scoring.models.state_dicts import EMA_NAME, StateDict
from scoring.models.tensors import Tensors

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile, FSDP and activation checkpointing put into the names of parameters, at any depth."""

NO_WEIGHTS = ("n_averaged",)
"""Counters that torch.optim.swa_utils keeps beside the weights."""


@dataclass(frozen=True)
class Fitted:
    """(model's name → tensor in the model's dtype) and sentences about what was done to get there."""

    tensors: Tensors
    notes: tuple[str, ...] = ()


def load_into(
    model: nn.Module,
    state: StateDict | Mapping[str, torch.Tensor],
    *,
    n_classes: int | None = None,
    weights: str = "plain",
) -> tuple[str, ...]:
    """Copy a checkpoint into the model, all of it or nothing; return notes for the user.

    Raises `HardlookError` naming file, key, found and needed where anything does not fit. Names that may be
    absent: tied weights (one of them is there), and BatchNorm's ``num_batches_tracked``. Half precision
    becomes the model's.

    >>> load_into(nn.Linear(2, 3), nn.DataParallel(nn.Linear(2, 3)).state_dict())
    ()
    """
    fitted = fit_state(model, state, n_classes=n_classes, weights=weights)
    copy_into(model, fitted.tensors)
    return fitted.notes


def copy_into(model: nn.Module, tensors: Tensors) -> None:
    """Copy tensors that `fit_state` gave into the model, and look that they are there.

    A model may load in its own way (``_load_from_state_dict``, hooks) and leave a tensor out without a word;
    raises `HardlookError` naming it.
    """
    load_weights(model, tensors)
    loaded = model.state_dict()
    for name, value in tensors.items():
        if not _same(loaded[name].cpu(), value.cpu()):
            raise HardlookError(
                f"{type(model).__name__} did not keep the weights of {name!r} when they were loaded; needed a model "
                "whose state_dict() returns what load_state_dict() received"
            )


def fit_state(
    model: nn.Module,
    state: StateDict | Mapping[str, torch.Tensor],
    *,
    n_classes: int | None = None,
    weights: str = "plain",
) -> Fitted:
    """The checkpoint's tensors under the model's names and in its dtypes, checked as in `load_into`."""
    if not isinstance(state, StateDict):
        state = StateDict(Path("the state dict"), dict(state))
    refuse_without_values(model)
    needed = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    given = _without_wrappers(state)
    match, note = _match_names(state, given, needed, weights)
    if match.count < len(needed):
        under = {key.removeprefix(match.prefix): value for key, value in given.items() if key.startswith(match.prefix)}
        given = translated(model, under) or given
        match, note = _match_names(state, given, needed, weights)
    found = {name: given[key] for key, name in match.keys.items() if key in given}
    extras = {match.prefix + _unwrapped(name) for name, _ in model.named_buffers()}  # once saved, now no longer
    unused = [key for key in given if key not in match.keys and key not in extras and not key.endswith("_extra_state")]
    refuse_missing(state.path, model, needed, found, unused)
    refuse_unloaded(state.path, model)
    outside = _refuse_unexpected(state.path, match, unused)
    refuse_shapes(state.path, needed, found, n_classes)
    refuse_kinds(state.path, needed, found)
    converted = {name: value.to(needed[name].dtype) for name, value in found.items()}
    refuse_infinite(state.path, model, converted)
    return Fitted(converted, (*state.notes, *note, *outside, *_changed_precision(state.tensors, needed)))


# -- names ---------------------------------------------------------------------------------------------------


def _unwrapped(name: str) -> str:
    """A name without what torch.compile, FSDP and activation checkpointing put into it, at any depth."""
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal in every value; a mask may hold NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one, other) or bool(((one == other) | (one.isnan() & other.isnan())).all())


def _without_wrappers(state: StateDict) -> dict[str, torch.Tensor]:
    """The tensors of a file under names without wrappers; two that then have one name must be equal."""
    given: dict[str, torch.Tensor] = {}
    for name, value in state.tensors.items():
        short = _unwrapped(name)
        if short in given and not torch.equal(given[short], value):
            raise HardlookError(
                f"{state.path} holds {short!r} twice, with and without a wrapper's prefix and with different values; "
                "save only the model to audit: torch.save(model.state_dict(), path)"
            )
        if name not in NO_WEIGHTS:
            given[short] = value
    return given


@dataclass(frozen=True)
class _Match:
    """How many names of the model a file has under one prefix: keys of the file → the model's names."""

    own: str
    prefix: str
    count: int
    keys: dict[str, str]

    @property
    def averaged(self) -> bool:
        return bool(EMA_NAME.search(self.prefix))


def _match_names(
    state: StateDict, given: Mapping[str, torch.Tensor], needed: Mapping[str, torch.Tensor], weights: str
) -> tuple[_Match, list[str]]:
    """The match that finds most names among the weights wanted, and a note where there were two kinds."""
    matches = [
        match for own in _own_prefixes([_unwrapped(name) for name in needed]) for match in _matches(own, given, needed)
    ]
    if not matches:
        raise HardlookError(
            f"{state.path}: none of its keys fits the model; found {listed(given)}, needed {listed(needed)}; {FACTORY}"
        )
    if state.kind == "ema":  # the file keeps them apart, and `read_state_dict` took the average
        return _best(state.path, matches), []
    most = max(match.count for match in matches)
    whole = [match for match in matches if 2 * match.count > most]
    wanted = [match for match in whole if match.averaged == (weights == "ema")]
    if weights == "ema" and not wanted:
        raise HardlookError(f"{state.path} holds no EMA weights; found {listed(given)}; use weights = 'plain'")
    best = _best(state.path, wanted or matches)
    return best, _ema_note(best, whole)


def _own_prefixes(names: list[str]) -> list[str]:
    """ "" and the leading components that all names of the model share: "model.", "model.net."."""
    own = [""]
    while names and all("." in name[len(own[-1]) :] for name in names):
        candidate = names[0][: names[0].index(".", len(own[-1])) + 1]
        if not all(name.startswith(candidate) for name in names):
            break
        own.append(candidate)
    return own


def _matches(own: str, given: Iterable[str], needed: Iterable[str]) -> list[_Match]:
    """One match per prefix: "module.fc.weight" has "fc.weight" under "module."."""
    names = {_unwrapped(name).removeprefix(own): name for name in needed}
    counts: Counter[str] = Counter()
    for key in given:
        starts = [0, *(dot.end() for dot in re.finditer(r"\.", key))]
        counts.update(key[:start] for start in starts if key[start:] in names)
    return [
        _Match(own, prefix, count, {prefix + short: name for short, name in names.items()})
        for prefix, count in counts.items()
    ]


def _best(path: Path, matches: list[_Match]) -> _Match:
    """The match with most names, none of the model's own left out; two equally good prefixes are an error."""
    most = max(match.count for match in matches)
    equal = [match for match in matches if match.count == most]
    equal = [match for match in equal if match.own == equal[0].own]
    if len(equal) > 1 and most > 1:
        found = " and ".join(repr(match.prefix) for match in equal)
        raise HardlookError(
            f"{path}: the model's weights are stored more than once, under {found}; save only those to audit: "
            "torch.save(model.state_dict(), path)"
        )
    return equal[0]


def _ema_note(best: _Match, whole: list[_Match]) -> list[str]:
    """Say which weights were taken where the names offer the plain ones and their average, or the average
    alone."""
    averaged = [match.prefix for match in whole if match.averaged]
    if best.averaged:
        return [f"used the EMA weights (under {best.prefix!r})"]
    return (
        [f"used the trained weights (under {best.prefix!r}), not the EMA weights (under {averaged[0]!r})"]
        if averaged
        else []
    )


def _refuse_unexpected(path: Path, match: _Match, unused: list[str]) -> list[str]:
    """Keys that the model does not have: an error beside its own keys, a note outside their prefix."""
    unused = [] if match.averaged else [key for key in unused if not EMA_NAME.search(key)]
    inside = [key for key in unused if key.startswith(match.prefix)]
    if inside:
        raise HardlookError(f"{path} has {len(inside)} keys that the model does not have: {listed(inside)}; {FACTORY}")
    return [f"ignored keys outside {match.prefix!r}: {listed(unused)}"] if unused else []


def _changed_precision(given: Mapping[str, torch.Tensor], needed: Mapping[str, torch.Tensor]) -> list[str]:
    """A note for each precision of the file that is not the model's."""
    built = {value.dtype for value in needed.values() if value.is_floating_point()}
    held = {value.dtype for value in given.values() if value.is_floating_point()} - built
    into = " and ".join(sorted(str(kind).removeprefix("torch.") for kind in built))
    return [f"{str(kind).removeprefix('torch.')} weights became {into}" for kind in sorted(held, key=str)]
