"""Weights into a model: names matched against the model's own, everything checked, then copied in at once.

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

from scoring.models.pretrained import translated
from scoring.models.state_dicts import EMA_NAME, StateDict, Tensors
from scoring.tables import HardlookError

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile, FSDP and activation checkpointing put into the names of parameters, at any depth."""

FACTORY = "is this the factory (and arguments) that the checkpoint was trained with?"

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
    model.load_state_dict(fitted.tensors, strict=False)  # names and shapes are known to fit
    return fitted.notes


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
    needed = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    given = {_unwrapped(name): value for name, value in state.tensors.items() if name not in NO_WEIGHTS}
    match, note = _match_names(state, given, needed, weights)
    if match.count < len(needed):
        under = {
            key.removeprefix(match.prefix): value
            for key, value in given.items()
            if key.startswith(match.prefix)
        }
        given = translated(model, under) or given
        match, note = _match_names(state, given, needed, weights)
    found = {name: given[key] for key, name in match.keys.items() if key in given}
    extras = {
        match.prefix + _unwrapped(name) for name, _ in model.named_buffers()
    }  # once saved, now no longer
    unused = [
        key
        for key in given
        if key not in match.keys and key not in extras and not key.endswith("_extra_state")
    ]
    _refuse_missing(state.path, model, needed, found, unused)
    outside = _refuse_unexpected(state.path, match, unused)
    _refuse_shapes(state.path, needed, found, n_classes)
    _refuse_kinds(state.path, needed, found)
    converted = {name: value.to(needed[name].dtype) for name, value in found.items()}
    _refuse_infinite(state.path, model, converted)
    return Fitted(converted, (*state.notes, *note, *outside, *_changed_precision(state.tensors, needed)))


# -- names ---------------------------------------------------------------------------------------------------


def _unwrapped(name: str) -> str:
    """A name without what torch.compile, FSDP and activation checkpointing put into it, at any depth."""
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


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
        match
        for own in _own_prefixes([_unwrapped(name) for name in needed])
        for match in _matches(own, given, needed)
    ]
    if not matches:
        raise HardlookError(
            f"{state.path}: none of its keys fits the model; found {_listed(given)}, "
            f"needed {_listed(needed)}; {FACTORY}"
        )
    if state.kind == "ema":  # the file keeps them apart, and `read_state_dict` took the average
        return _best(state.path, matches), []
    most = max(match.count for match in matches)
    whole = [match for match in matches if 2 * match.count > most]
    wanted = [match for match in whole if match.averaged == (weights == "ema")]
    if weights == "ema" and not wanted:
        raise HardlookError(
            f"{state.path} holds no EMA weights; found {_listed(given)}; use weights = 'plain'"
        )
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
            f"{path}: the model's weights are there more than once, under {found}; save the ones to "
            "audit alone: torch.save(model.state_dict(), path)"
        )
    return equal[0]


def _ema_note(best: _Match, whole: list[_Match]) -> list[str]:
    """Say which weights were taken where the names offer the plain ones and their average, or the average
    alone."""
    averaged = [match.prefix for match in whole if match.averaged]
    if best.averaged:
        return [f"took the EMA weights (under {best.prefix!r})"]
    return (
        [f"took the plain weights (under {best.prefix!r}), not the EMA (under {averaged[0]!r})"]
        if averaged
        else []
    )


def _refuse_unexpected(path: Path, match: _Match, unused: list[str]) -> list[str]:
    """Keys that the model does not have: an error beside its own keys, a note outside their prefix."""
    unused = [] if match.averaged else [key for key in unused if not EMA_NAME.search(key)]
    inside = [key for key in unused if key.startswith(match.prefix)]
    if inside:
        raise HardlookError(
            f"{path} has {len(inside)} keys that the model does not: {_listed(inside)}; {FACTORY}"
        )
    return [f"left out what is not under {match.prefix!r}: {_listed(unused)}"] if unused else []


# -- checks --------------------------------------------------------------------------------------------------


def _refuse_missing(
    path: Path, model: nn.Module, needed: Mapping[str, torch.Tensor], found: Tensors, unused: list[str]
) -> None:
    """Every key must be there, but for tied ones of which one is, and counters."""
    variables = model.state_dict(keep_vars=True)
    held = {id(value) for name, value in variables.items() if name in found}
    missing = [
        name
        for name in needed
        if name not in found and id(variables[name]) not in held and not name.endswith("num_batches_tracked")
    ]
    if missing:
        shapes = {name: tuple(needed[name].shape) for name in missing}
        instead = f"it has instead {_listed(unused)}" if unused else "it has nothing in their place"
        raise HardlookError(
            f"{path} lacks {len(missing)} of the {len(needed)} keys that the model needs: "
            f"{_listed(missing, shapes)}; {instead}; {FACTORY}"
        )


def _refuse_shapes(
    path: Path, needed: Mapping[str, torch.Tensor], found: Tensors, n_classes: int | None
) -> None:
    """Every shape must be equal; a wrong number of classes gets a message of its own."""
    wrong = {
        name: (tuple(value.shape), tuple(needed[name].shape))
        for name, value in found.items()
        if value.shape != needed[name].shape
    }
    if not wrong:
        return
    last = [name for name in needed if needed[name].ndim][-1].rpartition(".")[0]
    _refuse_class_count(path, wrong, last, n_classes)
    name, (shape, expected) = next(iter(wrong.items()))
    raise HardlookError(
        f"{path}: key {name!r} has shape {shape}, the model needs {expected}"
        f"{f' (and {len(wrong) - 1} more keys differ)' if len(wrong) > 1 else ''}; "
        "are these the arguments that the checkpoint was trained with?"
    )


def _refuse_class_count(
    path: Path, wrong: Mapping[str, tuple[tuple, tuple]], last: str, n_classes: int | None
) -> None:
    """The output layer's first dimension alone differs: the classes, not the architecture."""
    if any(
        len(shape) != len(expected) or not shape or shape[1:] != expected[1:]
        for shape, expected in wrong.values()
    ):
        return
    counts = {(shape[0], expected[0]) for shape, expected in wrong.values()}
    layers = {name.rpartition(".")[0] for name in wrong}
    if len(counts) != 1 or not (last in layers or {expected for _, expected in counts} == {n_classes}):
        return
    (found, built), name = counts.pop(), next(iter(wrong))
    listed = f", and audit.toml lists {n_classes}" if n_classes is not None else ""
    raise HardlookError(
        f"{path}: its output layer (key {name!r}) has {found} classes, the model built here needs "
        f"{built}{listed}; set the factory's arguments and the list of classes to agree"
    )


def _refuse_kinds(path: Path, needed: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    """Complex numbers or integers in the place of real weights would be cut down in silence."""
    for name, value in found.items():
        if needed[name].is_floating_point() and not value.is_floating_point():
            raise HardlookError(
                f"{path}: key {name!r} holds {str(value.dtype).removeprefix('torch.')}, the model needs "
                f"{str(needed[name].dtype).removeprefix('torch.')}; save the weights themselves, not a quantised or "
                "converted form of them"
            )


def _refuse_infinite(path: Path, model: nn.Module, converted: Tensors) -> None:
    """NaN or infinity in a weight or a running statistic; other buffers (masks) may hold −inf."""
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, value in converted.items():
        if name not in weights and not name.endswith(("running_mean", "running_var")):
            continue
        if (
            not value.sum().isfinite()
        ):  # a third of the time of looking at each; an overflow is looked at below
            bad = value.numel() - int(torch.isfinite(value).sum())
            if not bad:
                continue
            raise HardlookError(
                f"{path}: key {name!r} holds {bad} values of {value.numel()} that are NaN or infinite; "
                "needed finite weights; leave this checkpoint out, the training had diverged"
            )


def _changed_precision(given: Mapping[str, torch.Tensor], needed: Mapping[str, torch.Tensor]) -> list[str]:
    """A note for each precision of the file that is not the model's."""
    built = {value.dtype for value in needed.values() if value.is_floating_point()}
    held = {value.dtype for value in given.values() if value.is_floating_point()} - built
    into = " and ".join(sorted(str(kind).removeprefix("torch.") for kind in built))
    return [f"{str(kind).removeprefix('torch.')} weights became {into}" for kind in sorted(held, key=str)]


def _listed(names: Iterable[str], shapes: Mapping[str, tuple] | None = None, shown: int = 4) -> str:
    """The first few names, with their shapes where given."""
    names = list(names)
    told = [f"{name!r} {shapes[name]}" if shapes else repr(name) for name in names[:shown]]
    return ", ".join(told) + (", …" if len(names) > shown else "")
