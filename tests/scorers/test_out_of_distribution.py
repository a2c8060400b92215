"""Energy, GradNorm and ODIN against autograd and scipy, and their direction on examples far away."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import nn

from scoring.audit.errors import HardlookError
from scoring.scorers import registry
from scoring.scorers.energy import Energy, energy
from scoring.scorers.gradnorm import GradNorm, gradnorm
from scoring.scorers.odin import odin

CLASSES = 4


def test_energy_is_minus_the_log_of_the_summed_exponentials():
    z = np.random.default_rng(0).normal(size=(10, CLASSES)) * 5
    np.testing.assert_allclose(energy(z), -np.log(np.exp(z).sum(1)))
    np.testing.assert_allclose(energy(z, 3.0), -3 * logsumexp(z / 3, axis=1))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_gradnorm_is_the_l1_length_of_autograds_gradient_of_the_divergence_from_uniform(temperature):
    torch.manual_seed(0)
    head, x = nn.Linear(6, CLASSES).double(), torch.randn(12, 6, dtype=torch.float64)
    expected = []
    for row in x:
        log_p = (head(row) / temperature).log_softmax(0)
        uniform = torch.full((CLASSES,), 1 / CLASSES, dtype=torch.float64)
        (gradient,) = torch.autograd.grad(nn.functional.kl_div(log_p, uniform, reduction="sum"), head.weight)
        expected.append(gradient.abs().sum().item())
    np.testing.assert_allclose(gradnorm(x.numpy(), head(x).detach().numpy(), temperature), expected, rtol=1e-10)


def test_odin_of_a_linear_model_steps_along_the_sign_of_its_weights():
    torch.manual_seed(1)
    model, x, temperature, epsilon = nn.Linear(5, 2).double(), torch.randn(9, 5, dtype=torch.float64), 10.0, 0.05
    best = model(x).argmax(1)
    towards = torch.sign(model.weight[best] - model.weight[1 - best])  # two classes: log p rises with their difference
    expected = (model(x + epsilon * towards) / temperature).softmax(1).max(1).values
    np.testing.assert_allclose(odin(model, x, temperature=temperature, epsilon=epsilon), expected.detach().numpy())
    still = (model(x) / temperature).softmax(1).max(1).values.detach().numpy()
    np.testing.assert_allclose(odin(model, x, temperature=temperature, epsilon=0.0), still)
    assert (odin(model, x, temperature=temperature, epsilon=epsilon) > still).all()


def test_odin_of_tokens_is_that_of_their_embedding_as_an_input():
    torch.manual_seed(2)
    layer, head, tokens = nn.Embedding(20, 3).double(), nn.Linear(12, CLASSES).double(), torch.randint(20, (7, 4))
    whole = nn.Sequential(layer, nn.Flatten(), head)
    with torch.no_grad():
        vectors = layer(tokens)
    expected = odin(nn.Sequential(nn.Flatten(), head), vectors, temperature=5.0, epsilon=0.1)
    np.testing.assert_allclose(odin(whole, tokens, temperature=5.0, epsilon=0.1), expected)
    np.testing.assert_allclose(odin(whole, tokens, temperature=5.0, epsilon=0.1, embedding="0"), expected)
    assert (odin(whole, tokens, temperature=5.0, epsilon=0.1) > odin(whole, tokens, temperature=5.0, epsilon=0.0)).all()
    with pytest.raises(HardlookError, match="no layer 'words'"):
        odin(whole, tokens, embedding="words")


def test_examples_without_a_class_of_their_own_are_at_the_suspicious_end():
    flat, sure = np.zeros((1, CLASSES)), np.array([[9.0, 0, 0, 0]])
    x = np.ones((1, 3))
    assert energy(flat) > energy(sure)
    assert gradnorm(x, flat) < gradnorm(x, sure)
    ends = {name: registry()[name].columns[0].suspicious for name in ("energy", "gradnorm", "odin")}
    assert ends == {"energy": "high", "gradnorm": "low", "odin": "low"}
    assert "High = in distribution" in registry()["gradnorm"].columns[0].help


def test_an_imported_run_has_no_logits_to_take_the_scale_of():
    from types import SimpleNamespace

    for scorer in (Energy(), GradNorm()):
        imported = SimpleNamespace(run=SimpleNamespace(config={}, name="forest"))
        assert "imported run 'forest' has only probabilities" in scorer.lacks(imported)
        assert scorer.lacks(SimpleNamespace(run=SimpleNamespace(config={"model": "m.py:m"}, name="main"))) is None
