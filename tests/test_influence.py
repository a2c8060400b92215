"""Influence, embeddings and self-influence against closed forms, float64 autograd, leave-one-out and captum.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.curvature import head_hessian
from scoring.influence import (
    InfluenceFactors,
    conjugate_gradients,
    embedding_self_influence,
    self_influence,
    self_influence_by_gradients,
)
from scoring.tables import HardlookError


def small_cnn(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.SiLU(),
                         nn.Flatten(), nn.Linear(6, 3))


def small_images(n: int = 60, batch: int = 20) -> list:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 1, 8, 8, generator=generator)
    y = (x.mean((1, 2, 3)) * 8 + 1.5).clamp(0, 2).long()
    return list(zip(x.split(batch), y.split(batch), strict=True))


def trained(model: nn.Module, data: list, steps: int = 40, decay: float = 0.0) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(steps):
        for x, y in data:
            optimizer.zero_grad()
            penalty = decay / 2 * sum((p**2).sum() for p in model.parameters() if p.ndim > 1)
            (F.cross_entropy(model(x), y) + penalty).backward()
            optimizer.step()
    return model


def exact(model: nn.Module, data: list) -> tuple[np.ndarray, np.ndarray]:
    """The float64 Hessian of the mean loss over all parameters, and each example's gradient (n, p), row by
    row.
    """
    wide = model.double()
    parameters = list(wide.parameters())
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))
    each = F.cross_entropy(wide(x.double()), y, reduction="none")

    def rows(values: torch.Tensor) -> torch.Tensor:
        found = [
            torch.autograd.grad(v, parameters, retain_graph=True, materialize_grads=True) for v in values
        ]
        return torch.stack([torch.cat([part.flatten() for part in row]) for row in found])

    gradient = torch.autograd.grad(each.mean(), parameters, create_graph=True)
    return rows(torch.cat([g.flatten() for g in gradient])).numpy(), rows(each).numpy()


def apart(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.linalg.norm(one - two) / np.linalg.norm(two))


# -- embeddings ----------------------------------------------------------------------------------------------


def test_embeddings_have_the_dot_products_of_the_low_rank_inverse_hessian():
    model, data = trained(small_cnn(), small_images(), steps=10), small_images()
    factors = InfluenceFactors.fit(model, data, layers="*", arnoldi_dim=80, rank=15)
    embeddings = factors.embed(model, data)
    assert embeddings.shape == (60, 15) and embeddings.dtype == np.float32
    _, gradients = exact(model, data)
    blocks = torch.cat([block.flatten(1) for block in factors.blocks.values()], 1).double().numpy()
    expected = gradients @ (blocks.T / factors.eigenvalues @ blocks) @ gradients.T
    lengths = np.linalg.norm(embeddings, axis=1)
    assert (np.abs(embeddings @ embeddings.T - expected) <= 1e-5 * np.outer(lengths, lengths)).all()


def test_gram_matrices_are_those_of_the_exact_float64_hessian():
    model, data = trained(small_cnn(), small_images()), small_images()
    embeddings = InfluenceFactors.fit(model, data, layers="*", arnoldi_dim=100, rank=20).embed(model, data)
    hessian, gradients = exact(model, data)
    values, vectors = np.linalg.eigh(hessian)
    expected = gradients @ vectors[:, -20:] / np.sqrt(values[-20:])
    assert apart(embeddings @ embeddings.T, expected @ expected.T) <= 1e-3


@pytest.mark.filterwarnings("ignore")  # captum and what it imports warn of their own deprecations
def test_gram_matrices_are_captums_at_the_same_leaf_layers():
    captum = pytest.importorskip("captum.influence._core.arnoldi_influence_function")
    from torch.utils.data import TensorDataset

    model, data = trained(small_cnn(), small_images(), steps=10), small_images()
    layers = ["3", "6"]
    ours = InfluenceFactors.fit(model, data, layers=layers, arnoldi_dim=60, rank=10).embed(model, data)
    dataset = TensorDataset(*(torch.cat(parts) for parts in zip(*data, strict=True)))
    theirs = captum.ArnoldiInfluenceFunction(
        model.eval(),
        dataset,
        "",
        lambda *_: None,
        layers=layers,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=20,
        sample_wise_grads_per_batch=True,
        projection_dim=10,
        seed=0,
        arnoldi_dim=61,
        arnoldi_tol=1e-12,
        hessian_reg=0.0,
        hessian_inverse_tol=1e-12,
    )
    other = np.concatenate([theirs.compute_intermediate_quantities(tuple(batch)).numpy() for batch in data])
    assert (
        apart(ours @ ours.T, len(dataset) * other @ other.T) <= 1e-4
    )  # their Hessian is a sum, ours is a mean


def test_a_full_rank_head_gives_influence_through_the_damped_inverse():
    model, data = trained(small_cnn(), small_images(), decay=0.1).double(), small_images()
    data = [(x.double(), y) for x, y in data]
    factors = InfluenceFactors.fit(model, data, layers="6", rank=500, l2=0.1, floor=1e-9)
    embeddings = factors.embed(model, data)
    with torch.no_grad():
        features = torch.cat([model[:-1](x) for x, _ in data]).numpy()
        p = torch.cat([model(x).softmax(1) for x, _ in data]).numpy()
    y = torch.cat([y for _, y in data]).numpy()
    hessian, errors = head_hessian(features, p, l2=0.1).mean, p - np.eye(3)[y]
    gradients = (errors[:, :, None] * np.hstack([features, np.ones((60, 1))])[:, None, :]).reshape(60, -1)
    expected = gradients @ np.linalg.pinv(hessian, rcond=1e-9) @ gradients.T
    np.testing.assert_allclose(embeddings @ embeddings.T, expected, atol=1e-5 * np.abs(expected).max())


def test_the_heads_gradient_product_is_the_product_of_errors_times_that_of_features():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(6, 4)), rng.integers(0, 3, 6)
    layer = nn.Linear(4, 3).double()
    inputs, y = torch.as_tensor(x), torch.as_tensor(labels)
    rows = []
    for i in range(6):
        loss = F.cross_entropy(layer(inputs[i:i + 1]), y[i:i + 1])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(layer.parameters()))]))
    errors = np.eye(3)[labels] - layer(inputs).softmax(1).detach().numpy()
    gram = torch.stack(rows).numpy() @ torch.stack(rows).numpy().T
    np.testing.assert_allclose(gram, (errors @ errors.T) * (x @ x.T + 1), atol=1e-12)


def test_the_influence_of_a_removal_is_exact_leave_one_out_in_linear_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 4))
    y = x @ np.array([1.0, -2.0, 0.5, 3.0]) + 0.3 * rng.normal(size=30)
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    model = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.as_tensor(weights)[None])
    data = [(torch.as_tensor(x), torch.as_tensor(y))]

    def half_squared_error(outputs, labels):
        return (outputs[:, 0] - labels) ** 2 / 2

    factors = InfluenceFactors.fit(model, data, layers="*", loss=half_squared_error)
    embeddings = factors.embed(model, data).astype(float)
    residuals, leverage = y - x @ weights, np.einsum("nd,de,ne->n", x, np.linalg.inv(x.T @ x), x)
    without = np.stack(
        [np.linalg.lstsq(np.delete(x, i, 0), np.delete(y, i), rcond=None)[0] for i in range(30)]
    )
    moved = without - weights  # each row: how leaving that example out moves the weights
    exact_change = (
        -residuals[:, None] * x
    ) @ moved.T  # first order in each example's loss, exact in the weights
    predicted = embeddings @ embeddings.T / 30 / (1 - leverage)  # the closed form of leave-one-out
    np.testing.assert_allclose(predicted, exact_change, atol=1e-6 * np.abs(exact_change).max())
    assert factors.rank == 4
    np.testing.assert_allclose(embedding_self_influence(embeddings) / 30, leverage * residuals**2, rtol=1e-5)


def test_a_wrong_label_harms_its_twin_and_a_right_one_helps():
    rng = np.random.default_rng(0)
    x = torch.as_tensor(np.concatenate([rng.normal(-1, 0.3, (20, 2)), rng.normal(1, 0.3, (20, 2))])).float()
    y = torch.tensor([0] * 20 + [1] * 20)
    y[3] = 1  # planted
    model = nn.Linear(2, 2)
    model = trained(model, [(x, y)], steps=200)
    factors = InfluenceFactors.fit(model, [(x, y)], layers="*")
    of, on = factors.embed(model, [(x, y)]), factors.embed(model, [(x[3:4], torch.tensor([0]))])
    influence = (on @ of.T)[0]
    assert influence.argmin() == 3 and influence[3] < 0 < influence[:3].mean()
    assert embedding_self_influence(of).argmax() == 3


def test_embeddings_do_not_depend_on_batch_size_or_company():
    model, data = trained(small_cnn(), small_images()), small_images()
    factors = InfluenceFactors.fit(model, data, layers=None, rank=10)
    whole, ones = factors.embed(model, data), factors.embed(model, small_images(batch=7))
    np.testing.assert_allclose(whole, ones, rtol=1e-4, atol=1e-5 * np.abs(whole).max())
    np.testing.assert_array_equal(whole[20:40], factors.embed(model, data[1:2]))
    np.testing.assert_allclose(
        factors.embed(model, [(data[0][0][:1], data[0][1][:1])])[0],
        whole[0],
        rtol=1e-4,
        atol=1e-5 * np.abs(whole).max(),
    )
    assert factors.embed(model, []).shape == (0, 10)


def test_the_default_layers_are_the_last_block_and_the_head_and_are_named():
    model, data = small_cnn(), small_images()
    factors = InfluenceFactors.fit(model, data, layers=None, arnoldi_dim=10, rank=5)
    assert factors.report.layers == ("3", "6")
    assert set(factors.blocks) == {"3.weight", "3.bias", "6.weight", "6.bias"}


def test_fitting_is_deterministic_for_a_seed_and_leaves_the_model_untouched():
    model, data = small_cnn().train(), small_images()
    model[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    heard = []
    one, two, other = (InfluenceFactors.fit(model, data, layers=["0", "6"], arnoldi_dim=12, rank=6, seed=seed,
                                            announce=heard.append) for seed in (0, 0, 1))
    assert all(torch.equal(one.blocks[name], two.blocks[name]) for name in one.blocks)
    assert not torch.equal(one.blocks["6.weight"], other.blocks["6.weight"])
    assert model.training and model[3].weight.requires_grad and not model[0].weight.requires_grad
    assert all(torch.equal(before[name], value) and model[6].weight.grad is None
               for name, value in model.state_dict().items())
    assert "12 Hessian products, rank 6" in heard[0]


def test_factors_survive_a_file_without_pickle(tmp_path):
    model, data = small_cnn(), small_images()
    factors = InfluenceFactors.fit(model, data, layers="6", rank=6)
    factors.save(tmp_path / "factors.safetensors")
    loaded = InfluenceFactors.load(tmp_path / "factors.safetensors")
    np.testing.assert_array_equal(loaded.embed(model, data), factors.embed(model, data))
    assert loaded.report == factors.report and loaded.rank == factors.rank
    with pytest.raises(HardlookError, match="pass loss="):
        InfluenceFactors.load(tmp_path / "factors.safetensors", loss=F.mse_loss)
    assert [path.name for path in tmp_path.iterdir()] == ["factors.safetensors"]


def test_factors_refuse_other_weights_and_other_models():
    model, data = small_cnn(), small_images()
    factors = InfluenceFactors.fit(model, data, layers="6", rank=3)
    with pytest.raises(HardlookError, match="load the checkpoint they belong to"):
        factors.embed(small_cnn(seed=1), data)
    with pytest.raises(HardlookError, match="no '6.weight'"):
        factors.embed(nn.Linear(4, 3), data)


def test_a_converged_linear_model_and_one_with_negative_curvature_give_finite_embeddings_and_say_so():
    x, y = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    x[:, 0] = (2 * y - 1) * 3.0
    linear = trained(nn.Linear(5, 2), [(x, y)], steps=600)
    factors = InfluenceFactors.fit(linear, [(x, y)], layers="*")
    assert np.isfinite(factors.embed(linear, [(x, y)])).all() and factors.report.negative_share == 0
    assert any("only so many eigenvalues are positive" in note for note in factors.report.notes)
    torch.manual_seed(3)
    deep = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))
    factors = InfluenceFactors.fit(deep, [(x, y)], layers="*")
    assert np.isfinite(factors.embed(deep, [(x, y)])).all() and factors.report.negative_share > 0.1
    assert any("not at a minimum" in note for note in factors.report.notes)


def test_a_layer_without_a_fast_rule_is_named_in_the_report():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.head = nn.Parameter(torch.ones(4)), nn.Linear(4, 3)

        def forward(self, x):
            return self.head((x * self.scale).tanh())

    torch.manual_seed(0)
    model = nn.Sequential(Scaled())
    data = [(torch.randn(9, 4), torch.arange(9) % 3)]
    report = InfluenceFactors.fit(model, data, layers="*", rank=5).report
    assert any("no fast embedding rule fits 0: one example at a time" in note for note in report.notes)


def test_duplicates_and_an_absent_class_change_nothing_that_matters():
    model, data = trained(small_cnn(), small_images()), small_images()
    once = InfluenceFactors.fit(model, data, layers="6", rank=10)
    twice = InfluenceFactors.fit(model, data + data, layers="6", rank=10)
    np.testing.assert_allclose(once.eigenvalues[:6], twice.eigenvalues[:6], rtol=1e-3)
    absent = [(x[y > 0], y[y > 0]) for x, y in data]
    factors = InfluenceFactors.fit(model, absent, layers="6", rank=10)
    assert np.isfinite(factors.embed(model, data)).all()


def test_a_generator_is_refused_because_it_is_empty_the_second_time():
    with pytest.raises(HardlookError, match="read only once"):
        InfluenceFactors.fit(small_cnn(), iter(small_images()), layers="6")


def test_gradients_that_are_not_finite_are_refused_with_the_example():
    model, data = small_cnn(), small_images()
    factors = InfluenceFactors.fit(model, data, layers="3", arnoldi_dim=10, rank=3)
    x = data[0][0].clone()
    x[4] = torch.inf
    with pytest.raises(HardlookError, match="example 4"):
        factors.embed(model, [data[0], (x, data[0][1])])


def test_confident_examples_keep_their_digits_in_float32():
    model, data = trained(small_cnn(), small_images(), steps=60), small_images()
    layers = ["3", "6"]
    narrow = InfluenceFactors.fit(model, data, layers=layers, rank=10).embed(model, data)
    wide = [(x.double(), y) for x, y in data]
    exactly = InfluenceFactors.fit(model.double(), wide, layers=layers, rank=10).embed(model, wide)
    assert apart(narrow @ narrow.T, exactly @ exactly.T) <= 2e-5  # 1e-4 where the loss is taken in float32


# -- Cook's distance on the head -----------------------------------------------------------------------------


def head_case(n: int = 50, d: int = 6, c: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, logits = rng.normal(size=(n, d)), rng.normal(size=(n, c))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return x, p, rng.integers(0, c, n)


def gradients_of(x: np.ndarray, p: np.ndarray, y: np.ndarray) -> np.ndarray:
    errors = p - np.eye(p.shape[1])[y]
    return (errors[:, :, None] * np.hstack([x, np.ones((len(x), 1))])[:, None, :]).reshape(len(x), -1)


def test_self_influence_is_the_damped_quadratic_form_of_float64_autograd():
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 4).double(), torch.randn(50, 6).double()
    y = torch.arange(50) % 4
    ones = torch.cat([x, torch.ones(50, 1).double()], 1)
    start = torch.cat([layer.weight, layer.bias[:, None]], 1).detach().flatten()
    hessian = torch.autograd.functional.hessian(lambda w: F.cross_entropy(ones @ w.view(4, 7).T, y), start)
    each = torch.autograd.functional.jacobian(
        lambda w: F.cross_entropy(ones @ w.view(4, 7).T, y, reduction="none"), start)
    expected = (each @ torch.linalg.inv(hessian + 0.01 * torch.eye(28).double()) * each).sum(1)
    p = layer(x).softmax(1).detach().numpy()
    np.testing.assert_allclose(self_influence(x.numpy(), p, y.numpy(), damping=0.01), expected, rtol=1e-10)


def test_self_influence_takes_the_hessian_of_other_rows_and_its_l2_part():
    x, p, y = head_case()
    hessian = head_hessian(x[:30], p[:30], l2=0.2)
    found = self_influence(x, p, y, hessian=hessian, damping=0.05)
    inverse = np.linalg.inv(hessian.mean + 0.05 * np.eye(28))
    g = gradients_of(x, p, y)
    np.testing.assert_allclose(found, np.einsum("np,pq,nq->n", g, inverse, g), rtol=1e-10)
    np.testing.assert_allclose(self_influence(x, p, y, hessian=hessian.mean, damping=0.05), found)
    before = hessian.mean
    self_influence(x, p, y, hessian=before)
    np.testing.assert_array_equal(before, hessian.mean)


def test_conjugate_gradients_give_the_same_self_influence():
    x, p, y = head_case()
    expected = self_influence(x, p, y, hessian=head_hessian(x, p, l2=0.1), damping=1e-2)
    found = self_influence_by_gradients(x, p, y, damping=1e-2, l2=0.1, tolerance=1e-10)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    with pytest.raises(HardlookError, match="raise damping or max_steps"):
        self_influence_by_gradients(x, p, y, damping=1e-9, max_steps=2)


def test_conjugate_gradients_take_the_hessian_over_other_rows():
    x, p, y = head_case()
    expected = self_influence(x, p, y, hessian=head_hessian(x[:30], p[:30]), damping=1e-2)
    found = self_influence_by_gradients(x, p, y, damping=1e-2, over=(x[:30], p[:30]), tolerance=1e-10)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_conjugate_gradients_need_no_more_products_than_there_are_eigenvalues():
    matrix, products = np.diag(np.repeat([1.0, 30.0, 1000.0, 1e4], 10)), []

    def product(v):
        products.append(1)
        return v @ matrix

    conjugate_gradients(product, np.random.default_rng(0).normal(size=(3, 40)), 1e-8)
    assert len(products) <= 5  # four in exact arithmetic; steepest descent takes thousands


def test_conjugate_gradients_solve_many_right_sides_at_once_and_leave_zeros_alone():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    matrix, right = root @ root.T + np.eye(6), rng.normal(size=(4, 6))
    right[2] = 0
    np.testing.assert_allclose(
        conjugate_gradients(lambda v: v @ matrix, right, 1e-12), right @ np.linalg.inv(matrix), atol=1e-9
    )


def test_a_hessian_over_the_budget_is_refused_with_its_size_and_the_ways_out():
    x, p, y = head_case()
    with pytest.raises(
        HardlookError, match=r"takes 6.27e-06 GB \(4 classes × 7 features.*self_influence_by_gradients"
    ):
        self_influence(x, p, y, memory_budget=1000)


@pytest.mark.parametrize("change, message", [
    ({"damping": 0.0}, "damping is 0.0; needed above 0"),
    ({"labels": np.full(50, 9)}, "labels run from 9 to 9"),
    ({"labels": np.arange(50) % 5}, "labels run from 0 to 4; the head has classes 0 to 3"),
    ({"labels": np.zeros(3, int)}, "needed 50 class indices"),
    ({"labels": np.zeros(50)}, "needed 50 class indices"),
    ({"hessian": np.eye(3)}, r"needed \(28, 28\)"),
    ({"hessian": -np.eye(28)}, "not positive definite"),
    ({"features": np.full((50, 6), np.nan)}, "features of row 0 are not finite"),
])
def test_bad_input_to_self_influence_is_refused_in_one_sentence(change, message):
    x, p, y = head_case()
    with pytest.raises(HardlookError, match=message):
        self_influence(**{"features": x, "probabilities": p, "labels": y, **change})
