"""Checkpointed parts, bags of embeddings and low precision: the same numbers as without, or one sentence."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import checkpoint as module
from torch.utils.checkpoint import checkpoint as renamed
from torch.utils.checkpoint import checkpoint_sequential, create_selective_checkpoint_contexts

from scoring.audit.errors import HardlookError
from scoring.curvature.chosen_parameters import choose
from scoring.curvature.hessian import hessian_products
from scoring.gradients.plain_autograd import differentiable, plain_autograd
from scoring.influence import InfluenceFactors

from ..curvature.nets import exact_hessian, flat, vector_like

selective = functools.partial(create_selective_checkpoint_contexts, [torch.ops.aten.convolution.default])

WAYS = {
    "reentrant": lambda part, x: renamed(part, x, use_reentrant=True),
    "not reentrant": lambda part, x: renamed(part, x, use_reentrant=False),
    "by its module": lambda part, x: module.checkpoint(part, x, use_reentrant=False),
    "sequential": lambda part, x: checkpoint_sequential(part, 2, x, use_reentrant=False),
    "selective": lambda part, x: renamed(part, x, use_reentrant=False, context_fn=selective),
    "closure": lambda part, x: renamed(lambda y: part(y), x, use_reentrant=True),
}


class Net(nn.Module):
    def __init__(self, way=lambda part, x: part(x)):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 6, 3)
        self.part = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.SiLU())
        self.head, self.way = nn.Linear(6, 3), way

    def forward(self, x):
        return self.head(self.way(self.part, self.stem(x)).mean((2, 3)))


def images() -> list:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 3, 8, 8, generator=generator)
    return [(x[:7], torch.arange(7) % 3), (x[7:], torch.arange(5) % 3)]


def gram(model: nn.Module, data: list, layers) -> tuple[np.ndarray, tuple]:
    factors = InfluenceFactors.fit(model, data, layers=layers, arnoldi_dim=30, rank=4)
    found = factors.embed(model, data)
    return found @ found.T, factors.report.notes


@pytest.mark.parametrize("layers", ["*", ["head"], ["part.2", "head"]])
@pytest.mark.parametrize("way", WAYS)
def test_a_checkpointed_model_has_the_influence_of_the_same_model_without(way, layers):
    (found, notes), (expected, plain) = gram(Net(WAYS[way]), images(), layers), gram(Net(), images(), layers)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert notes == plain


def test_the_memory_efficient_densenet_has_the_products_of_the_plain_one():
    from torchvision.models import DenseNet

    products = []
    for efficient in (False, True):
        torch.manual_seed(0)
        model = DenseNet(4, (2, 2), 8, num_classes=3, memory_efficient=efficient).double()
        chosen = choose(model, ["features.denseblock2", "classifier"])
        vector = vector_like(chosen.tensors)
        data = [(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double(), torch.arange(4) % 3)]
        with differentiable(model, chosen.tensors):
            products.append(flat(hessian_products(model, data, chosen, loss=F.cross_entropy)(vector)))
    np.testing.assert_allclose(products[1], products[0], atol=1e-12)


def test_a_timm_model_with_checkpointing_has_the_influence_of_the_plain_one():
    timm = pytest.importorskip("timm")
    grams = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=32, depth=3)
        model.set_grad_checkpointing(checkpointed)
        data = [(torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3)]
        grams.append(gram(model, data, ["blocks.1", "blocks.2.norm1", "head"])[0])
    np.testing.assert_allclose(grams[1], grams[0], rtol=1e-4, atol=1e-4 * np.abs(grams[0]).max())


def test_checkpointing_and_inference_mode_are_as_before_outside():
    before = module._checkpoint_impl, torch._C._InferenceMode
    with pytest.raises(ZeroDivisionError), plain_autograd(), plain_autograd():
        with torch.inference_mode():
            assert not torch.ones(1).is_inference() and not torch.is_grad_enabled()
            with torch.inference_mode(False):
                assert torch.is_grad_enabled()
        raise ZeroDivisionError
    assert (module._checkpoint_impl, torch._C._InferenceMode) == before
    with torch.inference_mode():
        assert torch.ones(1).is_inference()


# -- bags of embeddings and hard sigmoids -----------------------------------------------------------------------


class Bag(nn.Module):
    def __init__(self, mode, padding):
        super().__init__()
        torch.manual_seed(0)
        self.bag, self.head = nn.EmbeddingBag(9, 5, mode=mode, padding_idx=padding), nn.Linear(5, 3)

    def forward(self, ids):
        return self.head(torch.tanh(self.bag(ids)))


class Reference(Bag):
    """The same from plain operations, one example at a time."""

    def forward(self, ids):
        rows = []
        for row in ids:
            kept = self.bag.weight[row[row != self.bag.padding_idx] if self.bag.padding_idx is not None else row]
            reduced = {"sum": kept.sum(0), "mean": kept.sum(0) / max(len(kept), 1)}.get(self.bag.mode)
            empty = torch.zeros(5).to(kept)
            rows.append(reduced if reduced is not None else kept.max(0).values if len(kept) else empty)
        return self.head(torch.tanh(torch.stack(rows)))


@pytest.mark.parametrize("padding", [None, 0])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_a_bag_of_embeddings_has_the_hessian_of_its_rows(mode, padding):
    ids = torch.randint(0, 9, (12, 6), generator=torch.Generator().manual_seed(0))
    ids[3] = 0
    model, data = Bag(mode, padding).double(), [(ids, torch.arange(12) % 3)]
    chosen = choose(model, "*")
    vector = vector_like(chosen.tensors)
    with differentiable(model, chosen.tensors):
        found = flat(hessian_products(model, data, chosen, loss=F.cross_entropy)(vector))
    reference = Reference(mode, padding).double()
    reference.load_state_dict(model.state_dict())
    np.testing.assert_allclose(
        found, exact_hessian(reference, data, list(chosen.parameters)) @ flat(vector), atol=1e-12
    )


# -- low precision -----------------------------------------------------------------------------------------------


class Auto(Net):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x).float()


class Below(Net):
    """Only what lies below the head computes in bfloat16."""

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            h = self.way(self.part, self.stem(x)).mean((2, 3))
        return self.head(h.float())


class Cast(Net):
    def forward(self, x):
        return self.head(self.part(self.stem(x)).mean((2, 3)).bfloat16().float())


@pytest.mark.parametrize("make, layers", [(Auto, None), (Auto, ["head"]), (Below, "*"), (Cast, "*")])
def test_chosen_layers_in_low_precision_are_refused_in_one_sentence(make, layers):
    with pytest.raises(HardlookError, match="compute in bfloat16.*float32 or float64"):
        InfluenceFactors.fit(make(), images(), layers=layers, arnoldi_dim=4, rank=2)


@pytest.mark.parametrize("make", [Below, Cast])
def test_low_precision_below_the_chosen_layers_is_read_as_it_is(make):
    model, data = make().eval(), images()
    chosen = choose(model, ["head"])
    vector = vector_like(chosen.tensors)
    with differentiable(model, chosen.tensors):
        found = flat(hessian_products(model, data, chosen, loss=F.cross_entropy)(vector))
    np.testing.assert_allclose(
        found, exact_hessian(model, data, list(chosen.parameters)) @ flat(vector), rtol=1e-4, atol=1e-6
    )
