"""Unpickles a checkpoint with inert stand-ins for all classes and functions, except those that make tensors.

A pickle → tensors, numbers, strings and plain containers as they are, and a `StandIn` for each other object,
which keeps what the object was made of. Nothing of the file's own is called. ``INERT_PICKLE`` is given to
torch.load as its ``pickle_module``. Only ever used in a process of its own (`scoring.models.conversion`).

Cost: that of unpickling. Known limits: a tensor of a class that rebuilds itself by code of its own stays
undecoded (`scoring.models.tensors`).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch

from scoring.models.tensors import undecoded


class StandIn:
    """In place of an object of the file: keeps what it was made of and does nothing."""

    _parts: list[Any]

    def __new__(cls, *parts: Any, **more: Any) -> StandIn:
        self = object.__new__(cls)
        self.__dict__["_parts"] = [*parts, *more.values()]
        return self

    def __init__(self, *parts: Any, **more: Any) -> None:
        """Everything was kept when it was made."""

    def __setstate__(self, state: Any) -> None:
        slots = state if isinstance(state, tuple) else (state,)
        for part in slots:
            if isinstance(part, Mapping):
                self.__dict__.update({str(name): value for name, value in part.items()})
            else:
                self._parts.append(part)

    def __setitem__(self, name: Any, value: Any) -> None:
        self.__dict__.setdefault("_items", {})[name] = value

    def append(self, value: Any) -> None:
        self._parts.append(value)

    def extend(self, values: Any) -> None:
        self._parts.extend(values)

    add = append

    def __call__(self, *parts: Any, **more: Any) -> StandIn:
        return StandIn(*parts, **more)

    def __hash__(self) -> int:
        return id(self)


REAL = {
    "collections": {"OrderedDict"},
    "_codecs": {"encode"},
    "builtins": {
        "dict",
        "list",
        "set",
        "tuple",
        "int",
        "float",
        "bool",
        "str",
        "bytes",
        "complex",
        "bytearray",
    },
    "torch._utils": {
        "_rebuild_tensor",
        "_rebuild_tensor_v2",
        "_rebuild_tensor_v3",
        "_rebuild_sparse_tensor",
    },
    "torch": {"Size", "device"},
    "torch.storage": {"UntypedStorage", "TypedStorage"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
}
"""Module → names that are looked up truly: they make tensors, numbers and containers, and nothing else."""


MADE_OF_TENSORS = {
    ("torch.nn.parameter", "Parameter"),
    ("torch.nn.parameter", "Buffer"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_parameter_with_state"),
}
"""What is called with a tensor first, which is all that is kept of it."""


class InertUnpickler(pickle.Unpickler):
    """Unpickles tensors and plain containers; everything else becomes a stand-in."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("__builtin__", "builtins")
        if name == "_rebuild_from_type_v2":
            return _without_type
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _storage_of
        if (module, name) in MADE_OF_TENSORS:
            return _as_tensor
        if name == "_make_skeleton_class":  # cloudpickle keeps classes of __main__ by value
            return _skeleton
        if module == "collections" and name in ("defaultdict", "Counter"):
            return _plain_dict
        if module == "torch._utils" and name.startswith("_rebuild_") and name not in REAL[module]:
            return lambda *_parts: undecoded(f"tensor of torch made by {name}")
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        known = is_dtype or name in REAL.get(module, ()) or (module == "torch" and name.endswith("Storage"))
        if not known or "." in name:
            return type(name.rpartition(".")[2], (StandIn,), {"__module__": module})
        return super().find_class(module, name)


def _without_type(function: Any, kind: Any, parts: tuple[Any, ...], _state: Any) -> Any:
    """A tensor of a subclass, as a plain tensor; one that only its own library can rebuild stays
    undecoded.
    """
    if isinstance(function, type) and issubclass(function, StandIn):
        return undecoded_as(kind)
    tensor = function(*parts)
    return undecoded_as(kind) if hasattr(tensor, "undecoded") else tensor


def undecoded_as(kind: Any) -> torch.Tensor:
    return undecoded(f"{kind.__module__}.{kind.__name__}")


def _skeleton(_constructor: Any, name: Any, *_rest: Any) -> type:
    return type(str(name), (StandIn,), {"__module__": "__main__"})


def _as_tensor(data: torch.Tensor, *_rest: Any) -> torch.Tensor:
    return data


def _storage_of(content: bytes) -> Any:
    """A storage inside a plain pickle is a torch file of its own."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False, pickle_module=INERT_PICKLE)


def _plain_dict(*_factory: Any) -> dict[str, Any]:
    return {}


INERT_PICKLE = SimpleNamespace(
    __name__="inert",
    Unpickler=InertUnpickler,
    UnpicklingError=pickle.UnpicklingError,
    load=lambda file, **options: InertUnpickler(file, **options).load(),
)
