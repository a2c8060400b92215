"""Hugging Face models: the names in their files → the names in the model, by the library's own loader.

transformers writes some weights under other names, or cut otherwise, than the model in memory has them, so
that files of all its versions look alike. A model that holds a ``PreTrainedModel`` and the tensors of a file
→ the tensors under the model's names, with whatever was missing, unexpected or of another shape still so, for
`scoring.models.state_dict_matching` to refuse.

Cost: the library builds the model once more. Known limits: a class of the user's own must be built from its
config alone, as the library demands too.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from scoring.models.checkpoint_reader import Tensors


def translated(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> Tensors | None:
    """The tensors under the names of the Hugging Face model inside ``model``; None where there is none."""
    inner = next((module for module in model.modules() if _is_pretrained(module)), None)
    if inner is None:
        return None
    with _quiet(), torch.random.fork_rng(devices=[]):  # what is missing would be drawn at random
        loaded, report = _strict(type(inner)).from_pretrained(
            None,
            config=copy.deepcopy(inner.config),
            state_dict=dict(tensors),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    found = {name: value for name, value in loaded.state_dict().items() if name not in set(report["missing_keys"])}
    found.update({name: tensors[name] for name in report["unexpected_keys"] if name in tensors})
    found.update({name: torch.empty(tuple(shape)) for name, shape, _ in report["mismatched_keys"]})
    return found


def _strict(kind: type) -> Any:
    """The class without its lists of names whose absence, or presence, the library would not report: what is missing
    would be left at random values without a word."""
    silent = {"_keys_to_ignore_on_load_missing": None, "_keys_to_ignore_on_load_unexpected": None}
    return type(kind.__name__, (kind,), {"__module__": kind.__module__, **silent})


def _is_pretrained(module: nn.Module) -> bool:
    """Returns whether a module is transformers' own kind, told by name so that the library is not imported for
    others."""
    return any(
        (kind.__module__, kind.__name__) == ("transformers.modeling_utils", "PreTrainedModel")
        for kind in type(module).__mro__
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the library's progress bar and report; keys that do not fit are errors of hardlook's own."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
