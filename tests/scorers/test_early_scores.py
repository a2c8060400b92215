"""EL2N and GraNd against their definitions, and GraNd against autograd, one example at a time."""

import numpy as np
import pytest
import torch
from torch import nn

from scoring.audit.errors import HardlookError
from scoring.gradients.parameter_gradient_norms import error_length, gradient_norm, head_gradient_norm
from scoring.scorers import Shard
from scoring.scorers.el2n import EL2N, error_norm_early
from scoring.scorers.grand import GraNd
from tests.nets import small_cnn


def test_el2n_is_the_mean_length_of_the_error_vector_over_the_first_epochs():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), size=(8, 30))
    y = np.eye(4)[rng.integers(0, 4, 30)]
    norms = np.linalg.norm(p - y, axis=2)
    np.testing.assert_allclose(error_norm_early(norms, 0.25), norms[:2].mean(0))
    np.testing.assert_allclose(error_norm_early(norms, 0.3), norms[:3].mean(0))  # 2.4 epochs are rounded up
    np.testing.assert_allclose(error_norm_early(norms, 1), norms.mean(0))


def test_el2n_leaves_out_epochs_that_were_not_recorded_and_refuses_no_epochs():
    np.testing.assert_array_equal(error_norm_early(np.array([[np.nan, np.nan], [1.0, np.nan]]), 1), [1.0, np.nan])
    with pytest.raises(HardlookError, match="early = 0"):
        error_norm_early(np.ones((2, 2)), 0)


def test_the_two_columns_differ_where_an_example_is_learned_late():
    norms = np.array([[1.4, 0.2], [1.4, 0.1], [0.1, 0.1], [0.0, 0.1]], dtype=np.float32)
    shard = Shard(
        example_id=np.array(["a", "b"]),
        split=np.array(["train"] * 2),
        labels=np.zeros(2, int),
        classes=["x", "y"],
        dynamics={"error_norm": norms},
    )
    found = EL2N().score(shard, None)
    np.testing.assert_allclose(found["early"], [1.4, 0.2], rtol=1e-6)
    np.testing.assert_allclose(found["all"], norms.mean(0), rtol=1e-6)


def autograd_norms(model, inputs, labels, parameters):
    """The slow way: one backward pass per example in float64."""
    model = model.double().eval()
    norms = []
    for x, y in zip(inputs.double(), labels, strict=True):
        loss = nn.functional.cross_entropy(model(x[None]), y[None])
        found = torch.autograd.grad(loss, parameters(model))
        norms.append(torch.cat([g.flatten() for g in found]).norm().item())
    return np.array(norms)


@pytest.mark.parametrize("bias", [True, False])
def test_the_closed_form_of_the_head_is_autograds_gradient_length(bias):
    torch.manual_seed(0)
    head, x, y = nn.Linear(7, 4, bias=bias), torch.randn(20, 7), torch.randint(0, 4, (20,))
    logits = head(x).detach()
    found = head_gradient_norm(x.numpy(), logits.numpy(), y.numpy(), bias=bias)
    np.testing.assert_allclose(found, autograd_norms(head, x, y, lambda m: list(m.parameters())), rtol=1e-5)


def test_the_error_of_a_sure_example_is_not_rounded_to_nothing():
    assert error_length(np.array([[60.0, 0.0]]), np.array([0]))[0] == pytest.approx(np.sqrt(2) * np.exp(-60), rel=1e-6)


def test_all_layers_are_autograds_gradient_length_and_the_model_is_left_as_it_was():
    torch.manual_seed(1)
    model = small_cnn()
    model.block1[1].running_mean.uniform_(-1, 1)
    x, y = torch.randn(9, 1, 8, 8), torch.randint(0, 3, (9,))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = gradient_norm(model.train(), x, y)
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    np.testing.assert_allclose(found, autograd_norms(model, x, y, lambda m: list(m.parameters())), rtol=1e-4)


def test_a_model_that_cannot_be_vectorised_goes_one_example_at_a_time():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            return self.head(x) * (1.0 if x.sum().item() < 1e9 else 2.0)  # vmap has no .item()

    torch.manual_seed(2)
    model, x, y = Stubborn(), torch.randn(5, 3), torch.randint(0, 2, (5,))
    np.testing.assert_allclose(
        gradient_norm(model, x, y), autograd_norms(model, x, y, lambda m: list(m.parameters())), rtol=1e-5
    )


def test_grand_averages_the_first_checkpoints_of_a_run(scored_sample):
    from scoring.audit import Audit
    from scoring.pipeline.shards import Context, make_shard

    audit = Audit.open(scored_sample)
    context = Context(audit, audit.run(), device="cpu")
    shard, _ = make_shard(context, GraNd(), np.arange(12))
    single = [
        GraNd(early=1).score(Shard(**{**vars(shard), "checkpoints": [c]}), "head")["early"]
        for c in shard.checkpoints[:2]
    ]
    np.testing.assert_allclose(GraNd(early=2).score(shard, "head")["early"], np.mean(single, 0))
    whole = GraNd(early=1, layers="all").score(shard, "all")["early"]
    assert (whole >= single[0] * (1 - 1e-5)).all()  # the head's parameters are among all
    with pytest.raises(HardlookError, match="layers = 'body'"):
        GraNd(layers="body").fit(context, None)
