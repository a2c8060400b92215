"""Hessian products, Lanczos and the exact head Hessian against autograd in float64 and NumPy's eigenvalues.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.curvature import factorise, head_hessian, size_of
from scoring.curvature.hessian import HeadProducts, hessian_products
from scoring.curvature.lanczos import lanczos
from scoring.curvature.parameters import Chosen, choose, differentiable
from scoring.curvature.prefix import Prefix
from scoring.curvature.second_order import SecondOrder
from scoring.tables import HardlookError


class SmallNet(nn.Module):
    """Convolutions with groups and stride, a batch norm with real statistics, a shortcut and a head."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(16, 3)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = F.silu(self.norm(self.first(x)))
        x = F.silu(x + self.second(x), inplace=True)
        return self.head(self.drop(F.avg_pool2d(x, 3).flatten(1)))


def small_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return SmallNet().double()


def small_data(sizes: tuple[int, ...] = (5, 4, 1)) -> list:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 2, 6, 6, generator=generator, dtype=torch.double),
             torch.randint(0, 3, (n,), generator=generator)) for n in sizes]


def exact_hessian(model: nn.Module, data: list, names: list[str], loss=F.cross_entropy) -> np.ndarray:
    """The mean Hessian of the loss, one backward pass per row, by plain autograd."""
    parameters = [dict(model.named_parameters())[name].requires_grad_() for name in names]
    model.eval()
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss(model(x), y), parameters, create_graph=True)])
    rows = [
        torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True, allow_unused=True)
        for value in gradient
    ]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows]).numpy()


@functools.cache
def small_hessian() -> np.ndarray:
    """That of the small net over all its parameters, on the small data."""
    model = small_net()
    return exact_hessian(model, small_data(), [name for name, _ in model.named_parameters()])


def expected_product(model: nn.Module, chosen, vector: list[torch.Tensor]) -> np.ndarray:
    """The chosen rows and columns of the small net's Hessian, times the vector."""
    inside = np.concatenate(
        [np.full(p.numel(), name in chosen.parameters) for name, p in model.named_parameters()]
    )
    return small_hessian()[np.ix_(inside, inside)] @ flat(vector)


def vector_like(parameters: list, seed: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]


def flat(parts: list[torch.Tensor]) -> np.ndarray:
    return torch.cat([part.detach().flatten() for part in parts]).numpy()


@pytest.mark.parametrize(
    "budget, way", [(10**9, "retained"), (40_000, "recomputed"), (3_000, "reread"), (0, "reread")]
)
@pytest.mark.parametrize("layers", ["*", ["norm", "second", "head"], "second"])
def test_a_product_is_the_hessian_times_the_vector_whatever_the_memory_budget(layers, budget, way):
    model, data = small_net(), small_data()
    chosen = choose(model, layers)
    vector = vector_like(chosen.tensors)
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, data, chosen, loss=F.cross_entropy, memory_budget=budget)
        first, second = flat(products(vector)), flat(products(vector))
    np.testing.assert_allclose(first, expected_product(model, chosen, vector), atol=1e-12)
    np.testing.assert_array_equal(first, second)
    assert way in products.way
    assert products.bytes <= budget


def test_a_linear_head_is_multiplied_in_closed_form():
    model, data = small_net(), small_data()
    chosen = choose(model, "head")
    vector = vector_like(chosen.tensors)
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, data, chosen, loss=F.cross_entropy)
        found = flat(products(vector))
    assert isinstance(products, HeadProducts)
    np.testing.assert_allclose(found, expected_product(model, chosen, vector), atol=1e-13)


def weighted(predicted: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean over examples of class weight times cross-entropy."""
    return (F.cross_entropy(predicted, labels, reduction="none") * torch.tensor([0.1, 1.0, 7.0])[labels]).mean()


@pytest.mark.parametrize("loss, plain", [
    (nn.CrossEntropyLoss(weight=torch.tensor([0.1, 1.0, 7.0]).double()), weighted),
    (nn.CrossEntropyLoss(label_smoothing=0.3), functools.partial(F.cross_entropy, label_smoothing=0.3)),
    (nn.MSELoss(), F.mse_loss),
])  # fmt: skip
def test_a_weighted_a_smoothed_and_a_squared_loss_of_a_head_have_their_own_hessian(loss, plain):
    model, data = small_net(), small_data()
    if isinstance(loss, nn.MSELoss):
        data = [(x, F.one_hot(y, 3).double()) for x, y in data]
    chosen = choose(model, "head")
    vector = vector_like(chosen.tensors)
    with differentiable(model, chosen.tensors):
        found = flat(hessian_products(model, data, chosen, loss=loss)(vector))
    exact = exact_hessian(model, data, list(chosen.parameters), plain)
    np.testing.assert_allclose(found, exact @ flat(vector), atol=1e-12)


def test_a_confident_head_keeps_its_curvature_in_float32():
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[9.0, 0, 0], [-9.0, 0, 0]]))
    x = torch.tensor([[1.0, 0.5, -1.0], [1.1, 0.0, 2.0]])  # logits 18 apart: 1 - p is below float32's grain beside 1
    chosen = choose(model, "*")
    vector = vector_like(chosen.tensors)
    with differentiable(model, chosen.tensors):
        found = flat(hessian_products(model, [(x, torch.tensor([0, 0]))], chosen, loss=F.cross_entropy)(vector))
    wide = nn.Linear(3, 2).double()
    wide.load_state_dict(model.state_dict())
    exact = exact_hessian(wide, [(x.double(), torch.tensor([0, 0]))], ["weight", "bias"])
    np.testing.assert_allclose(found, exact @ flat(vector).astype(float), rtol=1e-3)


def test_a_linear_layer_that_is_not_the_output_is_no_head():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).double()
    data = [(torch.randn(5, 4).double(), torch.randint(0, 3, (5,)))]
    chosen = choose(model, "0")
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, data, chosen, loss=F.cross_entropy)
        vector = vector_like(chosen.tensors)
        found = flat(products(vector))
    assert not isinstance(products, HeadProducts)
    np.testing.assert_allclose(
        found, exact_hessian(model, data, list(chosen.parameters)) @ flat(vector), atol=1e-13
    )


def test_the_l2_part_reaches_weights_and_spares_biases():
    model, data = small_net(), small_data()
    for layers in ("head", ["second", "head"]):
        chosen = choose(model, layers)
        vector = vector_like(chosen.tensors)
        with differentiable(model, chosen.tensors):
            plain = hessian_products(model, data, chosen, loss=F.cross_entropy)(vector)
            penalised = hessian_products(model, data, chosen, loss=F.cross_entropy, l2=0.5)(vector)
        for before, after, v in zip(plain, penalised, vector, strict=True):
            torch.testing.assert_close(after - before, 0.5 * v if v.ndim > 1 else torch.zeros_like(v))


def test_the_part_below_the_first_chosen_layer_runs_once():
    model, data = small_net(), small_data()
    runs = []
    model.first.register_forward_hook(lambda *_: runs.append(1))
    chosen = choose(model, "second")
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, data, chosen, loss=F.cross_entropy, memory_budget=40_000)
        before = len(runs)
        products(vector_like(chosen.tensors))
    assert "recomputed" in products.way
    assert len(runs) == before + len(data)  # hooks still fire on the replayed outputs
    assert products.prefix.needed == (
        False,
        True,
    )  # of the two layers below, only the upper one's output matters


def test_a_prefix_gives_the_same_outputs_and_leaves_the_model_as_it_was():
    model, data = small_net(), small_data()
    x, _ = data[0]
    with differentiable(model), torch.no_grad():
        expected = model(x)
        prefix = Prefix.find(model, list(model.head.parameters()), x)
        recorded = prefix.record(model, x)
        with prefix.replay(recorded) as inputs:
            torch.testing.assert_close(model(inputs), expected)
    assert not prefix.inputs_needed
    assert recorded.bytes < x.nbytes + expected.nbytes + 16 * len(x) * 8
    assert all("forward" not in vars(module) for module in model.modules())


@pytest.mark.parametrize("kind, stride", [("1d", 2), ("2d", 2), ("2d", (2, 1)), ("2d", (1,)), ("3d", 2), ("3d", (1, 2, 3))])
def test_the_cheap_second_derivative_of_a_convolution_is_pytorchs(kind, stride):
    torch.manual_seed(0)
    convolve = {"1d": F.conv1d, "2d": F.conv2d, "3d": F.conv3d}[kind]
    n = int(kind[0])
    x = torch.randn(2, 4, *[7] * n, dtype=torch.double, requires_grad=True)
    w = torch.randn(6, 2, *[3] * n, dtype=torch.double, requires_grad=True)
    b = torch.randn(6, dtype=torch.double, requires_grad=True)

    def function(x, w, b):
        with SecondOrder():
            return convolve(x, w, b, stride=stride, padding=1, dilation=2, groups=2).tanh()

    plain = convolve(x, w, b, stride=stride, padding=1, dilation=2, groups=2).tanh()
    torch.testing.assert_close(function(x, w, b), plain)
    assert torch.autograd.gradcheck(function, (x, w, b), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, w, b), fast_mode=True)


def test_the_cheap_second_derivative_of_a_frozen_batch_norm_is_pytorchs():
    torch.manual_seed(0)
    x, w, b = (
        torch.randn(*shape, dtype=torch.double, requires_grad=True) for shape in ((3, 4, 5), (4,), (4,))
    )
    mean, var = torch.randn(4).double(), torch.rand(4).double() + 0.5
    with SecondOrder():
        torch.testing.assert_close(F.batch_norm(x, mean, var, w, b), torch.batch_norm(
            x, w, b, mean, var, False, 0.1, 1e-5, False))
        torch.testing.assert_close(F.batch_norm(x, mean, var), torch.batch_norm(
            x, None, None, mean, var, False, 0.1, 1e-5, False))

    def function(x, w, b):
        with SecondOrder():
            return F.batch_norm(x, mean, var, w, b).tanh()

    assert torch.autograd.gradgradcheck(function, (x, w, b), fast_mode=True)


def symmetric(values: np.ndarray, seed: int = 0) -> torch.Tensor:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    return torch.as_tensor(q * values @ q.T)


def test_lanczos_with_as_many_products_as_dimensions_finds_every_eigenvalue():
    values = np.concatenate([[-3.0, -3.0, 0.0, 0.0, 0.0], np.linspace(0.5, 9, 25)])  # repeated ones too
    matrix = symmetric(values)
    ritz = lanczos(lambda v: [matrix @ v[0]], [torch.zeros(30, dtype=torch.double)], 30).ritz()
    np.testing.assert_allclose(ritz.values, np.sort(values)[::-1], atol=1e-10)
    assert ritz.residuals.max() < 1e-8


def test_ritz_residuals_are_what_the_pairs_leave_over():
    matrix = symmetric(np.linspace(0.1, 5, 80))
    krylov = lanczos(lambda v: [matrix @ v[0]], [torch.zeros(80, dtype=torch.double)], 12)
    ritz = krylov.ritz()
    vectors = krylov.combined(ritz.vectors)[0]
    left = torch.linalg.norm(vectors @ matrix - torch.as_tensor(ritz.values.copy())[:, None] * vectors, dim=1)
    np.testing.assert_allclose(ritz.residuals, left.numpy(), atol=1e-10)
    torch.testing.assert_close(
        vectors @ vectors.T, torch.eye(12, dtype=torch.double)
    )  # twelve usable dimensions
    assert ritz.residuals.max() > 0.01


def test_a_float32_basis_stays_orthogonal_over_hundreds_of_steps():
    matrix = symmetric(np.logspace(0, -6, 400)).float()
    krylov = lanczos(lambda v: [matrix @ v[0]], [torch.zeros(400)], 300)
    gram = krylov.basis[0] @ krylov.basis[0].T
    assert (gram - torch.eye(300)).abs().max() < 1e-5


def test_a_basis_stays_orthogonal_beside_an_eigenvalue_that_outshines_the_others():
    matrix = symmetric(np.concatenate([[1e6], np.linspace(1, 2, 99)])).float()
    krylov = lanczos(lambda v: [matrix @ v[0]], [torch.zeros(100)], 80)
    gram = krylov.basis[0] @ krylov.basis[0].T
    assert (gram - torch.eye(80)).abs().max() < 1e-5


class Spectrum:
    """Products with a symmetric matrix whose eigenvalues are known, as ``factorise`` wants them."""

    n, way, bytes = 1, "by hand", 0

    def __init__(self, values: np.ndarray):
        self.matrix = symmetric(np.asarray(values, float))
        self.chosen = Chosen(("layer",), {"w": nn.Parameter(torch.zeros(len(values), dtype=torch.double))})

    def __call__(self, vector: list[torch.Tensor]) -> list[torch.Tensor]:
        return [self.matrix @ vector[0].detach()]


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
def test_the_floor_and_the_mass_are_measured_by_the_largest_eigenvalue_whatever_its_sign(scale):
    products = Spectrum(scale * np.array([-100.0, -3.0, 0.5e-3, 2e-3, 1.0, 40.0]))  # the floor is 1e-3
    factors = factorise(products, size_of(products.chosen, arnoldi_dim=6, rank=6), rank=6)
    np.testing.assert_allclose(factors.values, scale * np.array([40.0, 1.0, 2e-3]), rtol=1e-6)
    assert factors.report.negative_share == pytest.approx(2 / 6)
    assert factors.report.negative_mass == pytest.approx(103 / 144.0025)


def test_residuals_are_relative_to_their_own_eigenvalue_and_only_the_rank_asked_for_is_kept():
    products = Spectrum(np.linspace(0.1, 50, 60))
    factors = factorise(products, size_of(products.chosen, arnoldi_dim=15, rank=7), rank=7)
    left = factors.blocks[0] @ products.matrix - torch.as_tensor(factors.values.copy())[:, None] * factors.blocks[0]
    np.testing.assert_allclose(factors.report.residuals, left.norm(dim=1).numpy() / factors.values, rtol=1e-6)
    assert max(factors.report.residuals) > 0.01 and "have residuals above 1% of themselves" in str(factors.report)
    assert len(factors.values) == len(factors.blocks[0]) == factors.report.rank == 7


def test_factors_do_not_depend_on_how_often_the_data_are_repeated():
    model, data = small_net(), small_data()
    found = []
    for batches in (data, data * 3):
        chosen = choose(model, "head")
        with differentiable(model, chosen.tensors):
            products = hessian_products(model, batches, chosen, loss=F.cross_entropy)
            found.append(factorise(products, size_of(chosen, arnoldi_dim=40, rank=20), rank=20).values)
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_the_report_tells_rank_residuals_negative_curvature_time_and_memory():
    model, data = small_net(), small_data()
    chosen = choose(model, ["second", "head"])
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, data, chosen, loss=F.cross_entropy)
        steps = []
        factors = factorise(products, size_of(chosen, arnoldi_dim=1000, rank=1000), rank=1000,
                            advance=lambda: steps.append(1))
    report, p = factors.report, chosen.dimension
    inside = np.concatenate(
        [np.full(w.numel(), name in chosen.parameters) for name, w in model.named_parameters()]
    )
    exact = np.linalg.eigvalsh(small_hessian()[np.ix_(inside, inside)])
    kept = exact[exact > 1e-5 * np.abs(exact).max()][::-1]
    assert len(steps) == report.products == p
    np.testing.assert_allclose(factors.values, kept, rtol=1e-6)
    assert report.rank == len(kept) < p and report.rank_requested == 1000
    assert report.negative_share == pytest.approx((exact < -1e-5 * np.abs(exact).max()).mean())
    assert max(report.residuals) < 1e-6
    assert report.seconds > 0 and report.planned_bytes > 0 and report.peak_bytes > 10**7
    notes = " ".join(report.notes)
    assert f"arnoldi_dim lowered from 1000 to {p}" in notes and "negative curvature" in notes
    assert "rank" in str(report) and "largest relative residual" in str(report)


def test_fewer_products_are_planned_with_a_note_where_memory_is_short_and_none_is_an_error():
    chosen = choose(small_net(), "*")
    one = chosen.dimension * 8
    size = size_of(chosen, arnoldi_dim=100, rank=50, memory_budget=30 * one)
    assert size.products == 27 and size.rank == 13 and size.basis_bytes <= 30 * one
    assert "arnoldi_dim lowered from 100 to 27: the memory budget holds 27 products" in size.notes
    assert "27 Hessian products" in str(size)
    assert size.bytes == 27 * one + 13 * max(p.numel() for p in chosen.tensors) * 8
    with pytest.raises(HardlookError, match="choose fewer layers or raise the budget"):
        size_of(chosen, memory_budget=one)
    with pytest.raises(HardlookError, match="needed at least 1"):
        size_of(chosen, rank=0)


def test_no_positive_curvature_is_an_error_that_says_so():
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.mul_(1e6)
    data = [(torch.ones(4, 3), model(torch.ones(4, 3)).argmax(1))]
    chosen = choose(model, "*")
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, data, chosen, loss=F.cross_entropy)
        with pytest.raises(HardlookError, match="no positive curvature"):
            factorise(products, size_of(chosen), rank=5)


# -- the exact head ------------------------------------------------------------------------------------------


def head_case(n: int = 40, d: int = 5, c: int = 4) -> tuple[np.ndarray, np.ndarray, nn.Linear]:
    torch.manual_seed(0)
    layer = nn.Linear(d, c).double()
    x = torch.randn(n, d, dtype=torch.double)
    with torch.no_grad():
        return x.numpy(), layer(x).softmax(1).numpy(), layer


def test_the_head_hessian_is_that_of_autograd():
    x, p, layer = head_case()
    inputs, labels = torch.as_tensor(x), torch.zeros(len(x), dtype=torch.long)
    ones = torch.cat([inputs, torch.ones(len(x), 1, dtype=torch.double)], 1)
    start = torch.cat([layer.weight, layer.bias[:, None]], 1).detach().flatten()
    exact = torch.autograd.functional.hessian(lambda w: F.cross_entropy(ones @ w.view(4, 6).T, labels), start)
    np.testing.assert_allclose(head_hessian(x, p).mean, exact.numpy(), atol=1e-12)
    np.testing.assert_allclose(head_hessian(x, p, block=1000).mean, exact.numpy(), atol=1e-12)


def test_head_hessians_of_shards_add_up():
    x, p, _ = head_case()
    whole, parts = (
        head_hessian(x, p, l2=0.1),
        head_hessian(x[:13], p[:13], l2=0.1) + head_hessian(x[13:], p[13:], l2=0.1),
    )
    assert whole.n == parts.n == 40
    np.testing.assert_allclose(parts.mean, whole.mean, atol=1e-13)
    with pytest.raises(HardlookError, match="needed the same head"):
        whole + head_hessian(x, p)


def test_the_head_hessian_has_a_zero_eigenvalue_for_each_shift_common_to_all_classes():
    x, p, _ = head_case()
    values = np.linalg.eigvalsh(head_hessian(x, p).mean)
    assert (np.abs(values) < 1e-12).sum() == 6  # d + 1
    l2 = head_hessian(x, p, l2=0.3).mean - head_hessian(x, p).mean
    np.testing.assert_allclose(np.diag(l2).reshape(4, 6), np.tile([0.3] * 5 + [0.0], (4, 1)))


def test_a_head_that_is_not_finite_or_not_a_matrix_is_refused():
    x, p, _ = head_case()
    with pytest.raises(HardlookError, match=r"needed \(n, d\) and \(n, c\)"):
        head_hessian(x[0], p[0])
    x[7, 0] = np.nan
    with pytest.raises(HardlookError, match="features of row 7 are not finite"):
        head_hessian(x, p)


# -- bad input -----------------------------------------------------------------------------------------------


def products_of(model: nn.Module, data, layers="*", loss=F.cross_entropy):
    chosen = choose(model, layers)
    with differentiable(model, chosen.tensors):
        return hessian_products(model, data, chosen, loss=loss)


def test_an_unknown_layer_is_refused_with_close_names():
    with pytest.raises(HardlookError, match="'secnod'.*second"):
        choose(small_net(), ["head", "secnod"])


def test_layers_without_parameters_are_refused():
    with pytest.raises(HardlookError, match="no trainable parameter"):
        choose(nn.Sequential(nn.ReLU()), "0")
    with pytest.raises(HardlookError, match="drop"):
        choose(small_net(), "drop")
    with pytest.raises(HardlookError, match="name at least one"):
        choose(small_net(), [])


def test_half_precision_and_batch_norm_without_statistics_are_refused():
    with pytest.raises(HardlookError, match="needed float32 or float64"):
        choose(nn.Linear(2, 2).half(), "*")
    with pytest.raises(HardlookError, match="mixes the examples of a batch"):
        choose(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)), "0")


def test_dropout_is_off_in_eval_mode_and_a_random_model_is_refused():
    class Random(nn.Linear):
        def forward(self, x):
            return F.dropout(super().forward(x))

    products_of(small_net(), small_data(), "second")
    with pytest.raises(HardlookError, match="different outputs for the same inputs"):
        products_of(Random(4, 3), [(torch.randn(6, 4), torch.zeros(6, dtype=torch.long))])


@pytest.mark.parametrize("data, message", [
    ([], "no batch"),
    ([(torch.randn(2, 4), torch.tensor([0, 7]))], "labels run from 0 to 7; the model has outputs 0 to 2"),
    ([(torch.full((2, 4), np.nan), torch.tensor([0, 1]))], "loss of example 0 of a batch is nan"),
    ([torch.randn(2, 4)], "needed batches of two"),
    ([(torch.randn(0, 4), torch.zeros(0, dtype=torch.long))], "without examples"),
])
def test_bad_data_are_refused_in_one_sentence(data, message):
    with pytest.raises(HardlookError, match=message):
        products_of(nn.Sequential(nn.Linear(4, 3), nn.Tanh()), data)


def test_a_loss_that_is_one_number_for_the_batch_is_refused():
    data = [(torch.randn(6, 4), torch.zeros(6, dtype=torch.long))]
    with pytest.raises(HardlookError, match="reduction='none'"):
        products_of(nn.Linear(4, 3), data, loss=lambda outputs, labels: outputs.sum())


def test_a_gradient_that_is_not_finite_when_differentiated_again_is_named():
    class Root(nn.Linear):
        def forward(self, x):
            return super().forward(x).abs().pow(0.5)  # infinite slope at 0

    model = Root(2, 2, bias=False)
    nn.init.zeros_(model.weight)
    chosen = choose(model, "*")
    with differentiable(model, chosen.tensors):
        products = hessian_products(
            model, [(torch.ones(2, 2), torch.tensor([0, 1]))], chosen, loss=F.cross_entropy
        )
        with pytest.raises(HardlookError, match="gradient of weight is not finite"):
            products(vector_like(chosen.tensors))


def test_data_in_another_order_the_second_time_are_refused():
    class Shuffled:
        def __init__(self):
            self.order = 1

        def __iter__(self):
            self.order = -self.order
            return iter(small_data()[::self.order])

    model = small_net()
    chosen = choose(model, "*")
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, Shuffled(), chosen, loss=F.cross_entropy, memory_budget=0)
        with pytest.raises(HardlookError, match="shuffle=False"):
            for _ in range(2):
                products(vector_like(chosen.tensors))
