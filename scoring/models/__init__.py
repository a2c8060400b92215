"""The audited model: built by the user's factory, its checkpoints loaded safely, run in eval mode.

The door of these rooms: ``audited`` holds `AuditedModel`; ``checkpoints`` finds and orders files; ``weights``
reads them (``formats``: what a file is, ``folders``: what a folder is, ``state_dicts``: trained or averaged,
``tensors``: what is no plain weight); ``loading`` fits them in (``refusals``: what may not go in,
``pretrained``: whose layout they have); ``conversion`` unpickles in a process of its own (``unpickling``) and is
imported by name; ``transforms`` prepares inputs; ``head`` knows the head and its features, ``layers`` the other
layers; ``outputs`` tells what a model returns; ``modes`` is eval mode, ``snapshot`` what is given back after it.
"""

from scoring.audit.user_code import load_callable
from scoring.models.audited_model import AuditedModel, build_model
from scoring.models.checkpoint_reader import NeedsUnpickling, StateDict, read_state_dict
from scoring.models.checkpoints import (
    Checkpoint,
    describe_order,
    find_checkpoints,
    natural_key,
    needs_checkpoints,
    order_checkpoints,
)
from scoring.models.eval_mode import choose_device, evaluating, logits_of
from scoring.models.head import Features, Head, features_of, head_of
from scoring.models.layers import last_block_and_head, named_layers, select_layers
from scoring.models.state_dict_matching import fit_state, load_into
from scoring.models.transforms import load_transform

__all__ = [
    "AuditedModel",
    "Checkpoint",
    "Features",
    "Head",
    "NeedsUnpickling",
    "StateDict",
    "build_model",
    "choose_device",
    "describe_order",
    "evaluating",
    "features_of",
    "find_checkpoints",
    "fit_state",
    "head_of",
    "last_block_and_head",
    "load_callable",
    "load_into",
    "load_transform",
    "logits_of",
    "named_layers",
    "natural_key",
    "needs_checkpoints",
    "order_checkpoints",
    "read_state_dict",
    "select_layers",
]
