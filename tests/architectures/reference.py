"""What the scores must be: the same formulas by autograd in float64, one example at a time, with nothing clever.

A net, its checkpoints and a batch → plain numpy arrays. The net is deep-copied only by building it again.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scoring.models.eval_mode import logits_of


def loaded(architecture, state: dict[str, Tensor]) -> nn.Module:
    """The net at a checkpoint, in float64."""
    net = architecture.make()
    versioned = net.state_dict()  # with the versions of its modules, which some read
    versioned.update(state)
    net.load_state_dict(versioned)
    net = net.double()
    net.reentrant = False  # autograd.grad refuses the reentrant kind of checkpointing
    for module in net.modules():  # what a net keeps besides its weights, in tensors of its own
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.is_floating_point() and name not in module._parameters:
                setattr(module, name, value.double())
    return net


def logits(net: nn.Module, x: Tensor) -> Tensor:
    """(n, c) of examples (n, *input), as differentiable logits: of probabilities their logarithm.

    An example alone is sent twice: PyTorch's batch norm gives a wrong gradient for a batch of one.
    """
    found = logits_of(net(torch.cat([x, x]) if len(x) == 1 else x.clone()))[: len(x)]
    probabilities = bool((found >= 0).all()) and bool(((found.sum(1) - 1).abs() < 1e-9).all())
    return found.log() if probabilities else found


def predictions(net: nn.Module, inputs: Tensor) -> np.ndarray:
    """(n, c) logits, example by example."""
    with torch.no_grad():
        return torch.cat([logits(net, one[None]) for one in _wide(inputs)]).numpy()


def gradient(net: nn.Module, x: Tensor, index: int, form: str) -> np.ndarray:
    """The gradient of one class's logit or probability by the input (1, *input), or by the tokens' embeddings."""
    if x.is_floating_point():
        leaf = x.clone().requires_grad_()
        found = _of(logits(net, leaf), index, form)
        return torch.autograd.grad(found, leaf)[0][0].numpy()
    kept: list[Tensor] = []

    def keep(_module, _given, output):
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()

    handle = token_embedding(net, x).register_forward_hook(keep)
    try:
        found = _of(logits(net, x), index, form)
    finally:
        handle.remove()
    return torch.autograd.grad(found, kept[0])[0][0].numpy()


def token_embedding(net: nn.Module, ids: Tensor) -> nn.Module:
    """The embedding that is called with the tokens themselves."""
    seen = []
    handles = [
        module.register_forward_pre_hook(lambda m, given: seen.append((m, given[0])))
        for module in net.modules()
        if isinstance(module, nn.Embedding)
    ]
    net(ids.clone())
    for handle in handles:
        handle.remove()
    return next(module for module, given in seen if given.shape == ids.shape and torch.equal(given, ids))


def _of(found: Tensor, index: int, form: str) -> Tensor:
    return found[0, index] if form == "logit" else found.softmax(1)[0, index]


def vog(nets: list[nn.Module], inputs: Tensor, classes: np.ndarray, form: str) -> np.ndarray:
    """(n,) raw VoG over all of these checkpoints (eq. 1 to 3; pictures averaged over channels first, tokens per
    coordinate, padding left out)."""
    found = []
    for one, index in zip(_wide(inputs), classes, strict=True):
        maps = np.stack([gradient(net, one[None], int(index), form) for net in nets])
        if inputs.is_floating_point():
            maps = maps.mean(1) if maps.ndim > 2 else maps
            found.append(maps.std(0).mean())
        else:
            found.append(maps.std(0)[(one != 0).numpy()].mean())
    return np.asarray(found)


def example_gradients(net: nn.Module, inputs: Tensor, labels: np.ndarray, names: list[str]) -> list[np.ndarray]:
    """Per parameter name, (n, *shape): the gradient of each example's cross-entropy; 0 where it has none."""
    known = dict(net.named_parameters())
    chosen = [known[name].requires_grad_() for name in names]
    rows = []
    for one, label in zip(_wide(inputs), labels, strict=True):
        loss = F.cross_entropy(logits(net, one[None]), torch.tensor([int(label)]))
        grads = torch.autograd.grad(loss, chosen, allow_unused=True, materialize_grads=True)
        rows.append([g.numpy() for g in grads])
    return [np.stack(column) for column in zip(*rows, strict=True)]


def loss_gradient(net: nn.Module, inputs: Tensor, labels: np.ndarray, names: list[str]) -> list[np.ndarray]:
    """The gradient of the mean loss over all, per parameter, in one batch: 0 where it has none."""
    known = dict(net.named_parameters())
    chosen = [known[name].requires_grad_() for name in names]
    loss = F.cross_entropy(logits(net, _wide(inputs)), torch.from_numpy(labels))
    return [g.numpy() for g in torch.autograd.grad(loss, chosen, allow_unused=True, materialize_grads=True)]


def gradnorm(net: nn.Module, inputs: Tensor, weight: str) -> np.ndarray:
    """(n,) L1 length of the gradient of KL(uniform ‖ softmax) by the head's weight."""
    chosen, found = dict(net.named_parameters())[weight].requires_grad_(), []
    for one in _wide(inputs):
        divergence = -logits(net, one[None]).log_softmax(1).mean()
        found.append(float(torch.autograd.grad(divergence, chosen)[0].abs().sum()))
    return np.asarray(found)


def odin(net: nn.Module, inputs: Tensor, temperature: float, epsilon: float) -> np.ndarray:
    """(n,) largest probability at a temperature, after a step of the input towards it."""
    found = []
    for one in _wide(inputs):
        leaf = one[None].clone().requires_grad_()
        best = (logits(net, leaf) / temperature).log_softmax(1).max()
        step = torch.autograd.grad(best, leaf)[0].sign()
        with torch.no_grad():
            found.append(float((logits(net, one[None] + epsilon * step) / temperature).softmax(1).max()))
    return np.asarray(found)


def _wide(inputs: Tensor) -> Tensor:
    return inputs.double() if inputs.is_floating_point() else inputs
