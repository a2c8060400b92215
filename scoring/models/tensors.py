"""Detects checkpoint tensors that are not plain weights: adapters, quantised, sparse and meta tensors.

The tensors of one state dict → nothing, or one `HardlookError` that says which key is what and what to do. A
tensor of a class that only its own library can rebuild stands as an empty one that bears the class's name
(`undecoded`), so that it is refused by name instead of being left out.

Cost: a look at names, types and layouts; no value is read. Known limits: quantised weights are told by the
names that GPTQ, AWQ, bitsandbytes, compressed-tensors, torchao and torch.ao give them, and by matrices of
whole numbers called ``weight``.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from scoring.audit.errors import HardlookError

Tensors = dict[str, torch.Tensor]

PACKED = {
    "qweight": "GPTQ or AWQ",
    "weight_packed": "compressed-tensors",
    "SCB": "bitsandbytes, 8 bits",
    "absmax": "bitsandbytes, 4 bits",
    "_packed_params": "torch.ao",
    "_weight_qdata": "torchao",
}
"""Last part of a name that only quantised layers have → which library writes it."""

SCALES = ("weight_scale", "weight_scale_inv", "weight_zero_point", "scale_weight")
"""Last part of a name that stands beside a weight of 8 bits."""

FLOAT8 = {kind for name, kind in vars(torch).items() if name.startswith("float8")}

ADAPTER = re.compile(
    r"(^|\.)(lora_(A|B|embedding_[AB]|magnitude_vector)|ia3_l|hada_w\d_[ab]|lokr_w\d|oft_[rR]|boft_[RS]|"
    r"vera_lambda_[bd]|prompt_embeddings)(\.weight)?$"
)
"""Names as PEFT's ``save_pretrained`` writes them, without the adapter's name that they have in a model."""


def undecoded(kind: str) -> torch.Tensor:
    """In place of a tensor that cannot be decoded without the library of its class: no data, and the
    class's name.
    """
    tensor = torch.empty(0, device="meta")
    setattr(tensor, "undecoded", kind)  # noqa: B010  a tensor has no attribute of that name for a type checker
    return tensor


def refuse_unusual(path: Path, tensors: Tensors) -> None:
    """Adapters, and quantised, sparse and meta tensors are no plain weights: nothing could compare or load
    them.
    """
    if any(ADAPTER.search(name) for name in tensors):
        raise HardlookError(adapter_without_base(path))
    packed = {name: PACKED[last] for name in tensors if (last := name.rpartition(".")[2]) in PACKED}
    for name, tensor in tensors.items():
        if kind := getattr(tensor, "undecoded", None):
            raise HardlookError(
                f"{path}: key {name!r} is a {kind}, whose values only its library can decode; needed plain weights: "
                "save the model before it is quantised, or as ordinary tensors"
            )
        quantiser = next(iter(packed.values()), None) or _quantised(name, tensor, tensors)
        if quantiser:
            raise HardlookError(
                f"{path}: key {next(iter(packed), name)!r} is quantised ({quantiser}); needed plain weights: save the "
                "model before it is quantised, or after model.dequantize() where the library has it"
            )
        if tensor.is_meta:
            raise HardlookError(
                f"{path}: key {name!r} is without data (meta); load the weights before saving the model"
            )
        if tensor.layout is not torch.strided:
            raise HardlookError(
                f"{path}: key {name!r} is {str(tensor.layout).removeprefix('torch.')}; needed plain weights: save it "
                "by .to_dense()"
            )


def adapter_without_base(path: Path) -> str:
    """The refusal of a file or folder that PEFT wrote."""
    return (
        f"{path} holds an adapter of PEFT (such as LoRA) without the base model's weights; merge first: "
        "model.merge_and_unload().save_pretrained(folder)"
    )


def _quantised(name: str, tensor: torch.Tensor, tensors: Tensors) -> str | None:
    """By which library, or how, a tensor is quantised; None where it is not."""
    first, _, last = name.rpartition(".")
    if tensor.is_quantized or type(tensor).__module__.partition(".")[0] == "torchao":
        return "torch.ao" if tensor.is_quantized else "torchao"
    whole = not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype is not torch.bool
    scaled = tensor.dtype in FLOAT8 and any(f"{first}.{scale}".lstrip(".") in tensors for scale in SCALES)
    if last == "weight" and tensor.ndim > 1 and (whole or scaled):
        return f"{str(tensor.dtype).removeprefix('torch.')} values"
    return None
