"""The token embedding of a model: finds the layer, its output per token, and the padding tokens.

Tokens have no input gradient; it is taken at the output of the layer that looks their numbers up, (n, tokens,
dim), or (n, dim) of an ``nn.EmbeddingBag``. The layer is found on a batch: it is the one ``nn.Embedding`` (or
subclass) that receives the batch's token numbers. Position and segment embeddings receive other numbers.

A model and a batch of tokens (n, t) go in; a layer's name, its output, or a mask (n, t) come out. Cost: one
forward pass without gradients per search.

Known limits: a lookup that is no module (``functional.embedding``, one-hot times a matrix) is not found, and
a model that looks the same weights up twice (encoder and decoder) is refused: either gradient alone would be
a part.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from scoring.audit.errors import HardlookError

LAYERS = (nn.Embedding, nn.EmbeddingBag)


class Lookup(NamedTuple):
    """One call of an embedding: its name, its weights, and the numbers that it received."""

    name: str
    weight: Tensor
    ids: Tensor


def token_layer(model: nn.Module, tokens: Tensor, name: str | None = None) -> str:
    """The name of the layer that embeds ``tokens``, (n, t) integers; ``name`` itself where it is given and
    exists.

    The model is run on the batch, in the mode in which it stands. Raises ``HardlookError`` where no single
    embedding receives the tokens, or where its weights are looked up a second time.
    """
    if name is not None:
        _named(model, name)
        return name
    if not any(isinstance(layer, LAYERS) for layer in model.modules()):
        raise HardlookError(
            "inputs are integers, which are treated as tokens, but the model has no nn.Embedding; name its embedding "
            "layer, or convert the inputs to floats in the transform"
        )
    calls = _lookups(model, tokens)
    fed = sorted({call.name for call in calls if same_numbers(call.ids, tokens)})
    if len(fed) != 1:
        fed = _following(model, tokens, calls, fed)
    if len(fed) != 1:
        raise HardlookError(
            f"{len(fed)} embeddings receive the tokens{' (' + ', '.join(fed) + ')' if fed else ''} among "
            f"{', '.join(dict.fromkeys(call.name for call in calls)) or 'none that is called'}; needed one: name the "
            "layer that embeds the tokens"
        )
    weight = next(call.weight for call in calls if call.name == fed[0])
    times = sum(call.weight is weight for call in calls)
    if times != 1:
        raise HardlookError(
            f"the embedding {fed[0]!r} was called {times} times in one forward pass, counting layers that share its "
            "weights; needed once: name the layer that embeds the tokens"
        )
    return fed[0]


def _lookups(model: nn.Module, tokens: Tensor) -> list[Lookup]:
    """Every call of an embedding in one forward pass over ``tokens``, in order."""
    calls: list[Lookup] = []

    def hook(name: str) -> Callable[..., Any]:
        def record(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            ids = args[0] if args else kwargs.get("input")
            if isinstance(ids, Tensor):
                calls.append(Lookup(name, layer.weight, ids.detach().clone()))

        return record

    with contextlib.ExitStack() as stack, torch.no_grad():
        for name, layer in model.named_modules():
            if isinstance(layer, LAYERS):
                handle = layer.register_forward_pre_hook(hook(name), with_kwargs=True)
                stack.callback(handle.remove)
        model(tokens.clone())
    return calls


def same_numbers(ids: Tensor, tokens: Tensor) -> bool:
    """Returns whether an embedding's input is the batch itself: as it is, transposed, or flattened."""
    order = order_of(ids, tokens)
    return order is not None and torch.equal(_in_order(ids, order, tokens.shape).long(), tokens.long())


def _following(model: nn.Module, tokens: Tensor, calls: list[Lookup], fed: list[str]) -> list[str]:
    """Returns which embeddings follow the tokens when these change: among those ``fed``, or of the tokens' shape if
    none is.

    The other tokens are the same ones moved by one position, so that every number stays valid.
    """
    other = tokens.roll(1, -1)
    if torch.equal(other, tokens):
        other = (tokens == 0).to(tokens.dtype)
    again = _lookups(model, other)
    if [call.name for call in again] != [call.name for call in calls]:
        return []
    both = list(zip(calls, again, strict=True))
    if fed:
        return sorted({one.name for one, two in both if one.name in fed and same_numbers(two.ids, other)})
    return sorted(
        {
            one.name
            for one, two in both
            if one.ids.shape == tokens.shape == two.ids.shape and not torch.equal(one.ids, two.ids)
        }
    )


def _named(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise HardlookError(f"the model has no layer {name!r} to embed tokens") from error


# -- the layer's output in the order of the tokens -----------------------------------------------------------


def order_of(ids: Any, tokens: Tensor) -> str | None:
    """Returns how an embedding received the tokens (n, t): "same", "transposed", "flat", or None for another shape.

    >>> order_of(torch.zeros(5, 2), torch.zeros(2, 5))
    'transposed'
    """
    if not isinstance(ids, Tensor):
        return None
    square = tokens.ndim == 2 and ids.shape == tokens.shape and len(tokens) == tokens.shape[1]
    if square and not torch.equal(ids, tokens) and torch.equal(ids, tokens.T):
        return "transposed"
    if ids.shape == tokens.shape:
        return "same"
    if tokens.ndim == 2 and ids.shape == tokens.T.shape:
        return "transposed"
    return "flat" if ids.ndim == 1 and ids.numel() == tokens.numel() else None


def _in_order(values: Tensor, order: str, shape: torch.Size) -> Tensor:
    """Values of an embedding's own order, with examples first: (n, t, …)."""
    if order == "transposed":
        return values.transpose(0, 1)
    return values.unflatten(0, shape) if order == "flat" else values


def _out_of_order(values: Tensor, order: str) -> Tensor:
    """The inverse: values with examples first, in an embedding's own order."""
    if order == "transposed":
        return values.transpose(0, 1)
    return values.flatten(0, 1) if order == "flat" else values


@contextlib.contextmanager
def embedded(model: nn.Module, name: str, tokens: Tensor, replace: Callable[[Tensor], Tensor]) -> Iterator[list[Any]]:
    """While it lasts, the layer's output (n, t, dim) or (n, dim) goes through ``replace`` on its way into the
    model.

    Gives a list with one entry per call. Raises ``HardlookError`` for an output that is not in the tokens'
    order.
    """
    calls: list[Tensor] = []

    def hook(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor:
        order = order_of(args[0] if args else kwargs.get("input"), tokens) or "same"
        if not isinstance(output, Tensor) or output.ndim < 2 or not output.is_floating_point():
            raise HardlookError(f"the layer {name!r} returns no tensor (n, tokens, dim); name another")
        bag = output.ndim == 2 and len(output) == len(tokens)
        ordered = output if bag else _in_order(output, order, tokens.shape)
        if ordered.shape[: 1 if bag else 2] != tokens.shape[: 1 if bag else 2]:
            raise HardlookError(
                f"the embedding {name!r} returns {tuple(output.shape)} for tokens of shape {tuple(tokens.shape)}; "
                "needed one vector per token, or per example"
            )
        calls.append(replace(ordered))
        return (calls[-1] if bag else _out_of_order(calls[-1], order)).clone()  # it may be worked on in place

    handle = _named(model, name).register_forward_hook(hook, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


# -- which tokens are real -----------------------------------------------------------------------------------


def padding_id(model: nn.Module, layer: nn.Module) -> int | None:
    """The token number that stands for padding: of the model's config, else of its embedding; None where
    neither says."""
    configs = [getattr(module, "config", None) for module in model.modules()]
    return _first_number(
        [getattr(config, "pad_token_id", None) for config in configs] + [getattr(layer, "padding_idx", None)]
    )


def padding_of_transform(transform: Any) -> int | None:
    """The same of a transform, or of its tokenizer: ``pad_token_id`` or ``padding_id``; None where it has
    none.

    >>> from types import SimpleNamespace
    >>> padding_of_transform(SimpleNamespace(tokenizer=SimpleNamespace(pad_token_id=3)))
    3
    """
    holders = (transform, getattr(transform, "tokenizer", None))
    names = ("pad_token_id", "padding_id")
    return _first_number([getattr(holder, name, None) for holder in holders for name in names])


def _first_number(values: list[Any]) -> int | None:
    return next((one for one in values if isinstance(one, int) and one >= 0), None)


def real_tokens(tokens: Tensor, padding: int | None) -> Tensor:
    """(n, t) whether each token is no padding; all are where no padding is known.

    >>> real_tokens(torch.tensor([[7, 3, 0]]), 0).tolist()
    [[True, True, False]]
    """
    return torch.ones_like(tokens, dtype=torch.bool) if padding is None else tokens != padding
