"""Hugging Face folders: the model that ``config.json`` describes, its tokenizer and its image processor.

``model_of_folder`` builds an image or sequence classifier by the ``architectures`` of its config. A text model is
called with token ids alone, one tensor (n, length), as every model here is: `FromTokens` derives the attention mask
from where the padding is, at the side where its tokenizer pads. `Tokens` is the transform: text → (length,) ids; it
compares, text by text, the mask that can be derived with the one that the tokenizer makes, and the token types with
zeros, and refuses a text of which the model would get something else than in training. `ProcessedImage` is the
transform of images: the folder's own processor. Everything is read from the folder, nothing is downloaded.

Cost: that of the library. Known limits: pairs of texts, and tokenizers that give other token types than 0, need a
transform and a model of one's own.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoring.audit.errors import HardlookError, first_line

TASKS = ("ForImageClassification", "ForImageClassificationWithTeacher", "ForSequenceClassification")
"""Endings of the architectures that give one label per example."""


class FromTokens(nn.Module):
    """A sequence classifier called with token ids alone: (n, length) → logits (n, classes).

    ``padding``: the id of padding, None where the tokenizer has none; ``side``: where it stands, right or left. Ids of
    padding inside a text, or at its other end, are tokens like others.
    """

    def __init__(self, net: nn.Module, padding: int | None, side: str = "right"):
        super().__init__()
        self.net, self.padding, self.side = net, padding, side

    @property
    def config(self) -> Any:
        """The model's own configuration."""
        return self.net.config

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of token ids."""
        mask = real_tokens(ids, self.padding, self.side)
        found = self.net(input_ids=ids, attention_mask=mask)
        logits: Tensor = found.logits
        return logits


def real_tokens(ids: Tensor, padding: int | None, side: str = "right") -> Tensor:
    """(…, length) ids → the attention mask, 1 for all but the run of padding at one end.

    >>> real_tokens(torch.tensor([[5, 0, 7, 0, 0]]), 0).tolist()
    [[1, 1, 1, 0, 0]]
    >>> real_tokens(torch.tensor([[0, 5, 0]]), 0, "left").tolist()
    [[0, 1, 1]]
    """
    if padding is None:
        return torch.ones_like(ids)
    other = (ids != padding).to(ids.dtype)
    return other.cummax(-1).values if side == "left" else other.flip(-1).cummax(-1).values.flip(-1)


class Tokens:
    """Text → (length,) token ids by the tokenizer of a folder, or by one at hand, padded and cut to ``length``."""

    def __init__(self, folder: Path, length: int, tokenizer: Any = None):
        if not isinstance(length, int) or isinstance(length, bool) or length < 1:
            raise HardlookError(f"transform.length = {length!r}; needed a whole number of at least 1")
        self.folder, self.length, self._given = folder, length, tokenizer

    def __repr__(self) -> str:
        return f"Tokens({self.folder}, {self.length}, {self._given!r})"

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return load_tokenizer(self.folder) if self._given is None else self._given

    def __call__(self, text: str) -> Tensor:
        """The ids; raises `HardlookError` for a text of which the model would get another mask or other token types."""
        if not isinstance(text, str):
            raise HardlookError(f"the transform got {type(text).__name__}; needed a text")
        made = self.tokenizer(text, padding="max_length", truncation=True, max_length=self.length, return_tensors="pt")
        ids: Tensor = made["input_ids"][0]
        mask = made.get("attention_mask")
        derived = real_tokens(ids, self.tokenizer.pad_token_id, self.tokenizer.padding_side)
        if mask is not None and not torch.equal(mask[0], derived):
            raise HardlookError(
                "the tokenizer's attention mask is not that of its padding (the text ends in the token that pads); "
                "name your own transform and model in audit.toml (manual: recipes/huggingface)"
            )
        types = made.get("token_type_ids")
        if types is not None and bool((types != 0).any()):
            raise HardlookError(
                "the tokenizer gives token types other than 0, which a model called with ids alone does not get; name "
                "your own transform and model in audit.toml (manual: recipes/huggingface)"
            )
        return ids

    def spans(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of each token in the text, (0, 0) of special ones; none where the tokenizer cannot tell."""
        if not self.tokenizer.is_fast:
            return []
        made = self.tokenizer(text, truncation=True, max_length=self.length, return_offsets_mapping=True)
        return [(int(start), int(end)) for start, end in made["offset_mapping"]]


class ProcessedImage:
    """Image → (channels, height, width) by the image processor of a folder, or by one at hand."""

    def __init__(self, folder: Path, processor: Any = None):
        self.folder, self._given = folder, processor

    def __repr__(self) -> str:
        return f"ProcessedImage({self.folder}, {self._given!r})"

    @cached_property
    def processor(self) -> Any:
        """The processor."""
        return _loaded("AutoImageProcessor", self.folder, "image processor") if self._given is None else self._given

    def __call__(self, image: Any) -> Tensor:
        """The pixel values; grey and palette images become RGB, which processors ask for."""
        values = self.processor(image.convert("RGB") if hasattr(image, "convert") else image, return_tensors="pt")
        pixels: Tensor = values["pixel_values"][0]
        return pixels


def model_of_folder(folder: Path, padding: int | None = None, side: str | None = None) -> nn.Module:
    """The classifier of a folder, with initial weights; ``padding`` and ``side`` are the tokenizer's, where it is not
    in the folder. Raises `HardlookError` for a folder of another task."""
    import transformers

    config, name = config_of(folder), architecture(folder)
    net: nn.Module = getattr(transformers, name)._from_config(config)
    if not name.endswith("ForSequenceClassification"):
        return net
    if padding is None or side is None:
        own = tokenizer_facts(folder)
        padding = own[0] if padding is None else padding
        side = side or own[1]
    if config.pad_token_id is None and padding is not None:
        config.pad_token_id = padding
    return FromTokens(net, config.pad_token_id if padding is None else padding, side)


def tokenizer_facts(folder: Path) -> tuple[int | None, str]:
    """(id of padding, side of padding) of a folder's tokenizer; (None, "right") where it has none."""
    if not has_tokenizer(folder):
        return None, "right"
    tokenizer = load_tokenizer(folder)
    return tokenizer.pad_token_id, str(tokenizer.padding_side)


def has_tokenizer(folder: Path) -> bool:
    """Returns whether a tokenizer was saved in a folder."""
    return any((folder / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json", "vocab.txt"))


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, with a token for padding."""
    tokenizer = _loaded("AutoTokenizer", folder, "tokenizer")
    if tokenizer.pad_token_id is None:
        raise HardlookError(
            f"the tokenizer of {folder} has no padding token, which texts of different lengths need; set the one "
            "of its training (tokenizer.pad_token = …) and save it again"
        )
    return tokenizer


def config_of(folder: Path) -> Any:
    """The configuration of a folder; raises `HardlookError` where there is none, or one that needs code of its own."""
    path = folder / "config.json"
    if not path.is_file():
        held = ", ".join(sorted(each.name for each in folder.iterdir())[:6]) if folder.is_dir() else "nothing"
        raise HardlookError(f"{folder} is no folder of a Hugging Face model: needed config.json, found {held}")
    if "auto_map" in _json(path):
        raise HardlookError(
            f'{path} names code of its own (auto_map), which is not run; name your own factory: model = "model.py:net"'
        )
    return _loaded("AutoConfig", folder, "configuration")


def architecture(folder: Path) -> str:
    """The class of the folder's model; raises `HardlookError` for another task than one label per example."""
    stated = _json(folder / "config.json")
    names = stated.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    if not name.endswith(TASKS):
        raise HardlookError(
            f"{folder} holds a model for another task (architectures = {name or 'none'}); needed image or sequence "
            "classification, such as ViTForImageClassification"
        )
    if stated.get("problem_type") in ("multi_label_classification", "regression"):
        raise HardlookError(
            f"{folder} holds a model of {stated['problem_type']}; hardlook audits one label per example "
            "(single_label_classification)"
        )
    import transformers

    if not hasattr(transformers, name):
        raise HardlookError(f"{folder}: transformers {transformers.__version__} has no {name}; install its version")
    return name


def _loaded(kind: str, folder: Path, what: str) -> Any:
    """``from_pretrained`` of a folder alone; what the library raises becomes one sentence."""
    try:
        import transformers
    except ImportError as error:
        raise HardlookError(f"{folder} needs transformers; run: pip install 'hardlook[huggingface]'") from error
    try:
        return getattr(transformers, kind).from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise HardlookError(f"the {what} in {folder} cannot be loaded ({first_line(error)}); save it there") from error


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; raises `HardlookError` for a damaged file."""
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise HardlookError(f"{path} cannot be read ({first_line(error)}); copy it again") from error
    return found if isinstance(found, dict) else {}
