"""Influence embeddings against closed forms, float64 autograd, leave-one-out and captum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.audit.errors import HardlookError
from scoring.curvature import head_hessian
from scoring.influence import (
    InfluenceFactors,
    embedding_self_influence,
)


def small_cnn(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.SiLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.SiLU(), nn.Flatten(), nn.Linear(6, 3)
    )


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
        found = [torch.autograd.grad(v, parameters, retain_graph=True, materialize_grads=True) for v in values]
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
    assert apart(ours @ ours.T, len(dataset) * other @ other.T) <= 1e-4  # their Hessian is a sum, ours is a mean


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
        loss = F.cross_entropy(layer(inputs[i : i + 1]), y[i : i + 1])
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
    without = np.stack([np.linalg.lstsq(np.delete(x, i, 0), np.delete(y, i), rcond=None)[0] for i in range(30)])
    moved = without - weights  # each row: how leaving that example out moves the weights
    exact_change = (-residuals[:, None] * x) @ moved.T  # first order in each example's loss, exact in the weights
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
    one, two, other = (
        InfluenceFactors.fit(model, data, layers=["0", "6"], arnoldi_dim=12, rank=6, seed=seed, announce=heard.append)
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(one.blocks[name], two.blocks[name]) for name in one.blocks)
    assert not torch.equal(one.blocks["6.weight"], other.blocks["6.weight"])
    assert model.training and model[3].weight.requires_grad and not model[0].weight.requires_grad
    assert all(
        torch.equal(before[name], value) and model[6].weight.grad is None for name, value in model.state_dict().items()
    )
    assert "12 Hessian products, rank 6" in str(heard[0])


def test_factors_survive_a_file_without_pickle(tmp_path):
    model, data = small_cnn(), small_images()
    factors = InfluenceFactors.fit(model, data, layers="6", rank=6)
    factors.save(tmp_path / "factors.safetensors")
    loaded = InfluenceFactors.load(tmp_path / "factors.safetensors")
    np.testing.assert_array_equal(loaded.embed(model, data), factors.embed(model, data))
    assert loaded.report == factors.report and loaded.rank == factors.rank
    with pytest.raises(HardlookError, match="pass that loss"):
        InfluenceFactors.load(tmp_path / "factors.safetensors", loss=F.mse_loss)
    assert [path.name for path in tmp_path.iterdir()] == ["factors.safetensors"]


def test_factors_refuse_other_weights_and_other_models():
    model, data = small_cnn(), small_images()
    factors = InfluenceFactors.fit(model, data, layers="6", rank=3)
    with pytest.raises(HardlookError, match="load that checkpoint"):
        factors.embed(small_cnn(seed=1), data)
    with pytest.raises(HardlookError, match="no '6.weight'"):
        factors.embed(nn.Linear(4, 3), data)


def test_a_converged_linear_model_and_one_with_negative_curvature_give_finite_embeddings_and_say_so():
    x, y = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    x[:, 0] = (2 * y - 1) * 3.0
    linear = trained(nn.Linear(5, 2), [(x, y)], steps=600)
    factors = InfluenceFactors.fit(linear, [(x, y)], layers="*")
    assert np.isfinite(factors.embed(linear, [(x, y)])).all() and factors.report.negative_share == 0
    assert any("only that many eigenvalues are positive" in note for note in factors.report.notes)
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
    assert any("no fast embedding rule fits 0: their forward runs again, vectorised" in note for note in report.notes)


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
