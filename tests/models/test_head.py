"""The premise "the head is linear on the features": measured on batches, for every kind of head, against algebra."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.models import AuditedModel
from scoring.models.head import features_of, head_of
from scoring.models.outputs import OutputAsLogits


class Cosine(nn.Linear):
    """A cosine classifier: a Linear by its type alone."""

    def forward(self, x):
        return 10 * F.linear(F.normalize(x), F.normalize(self.weight))


class Net(nn.Module):
    """Features of a batch by ``body``, and logits by ``head`` and what comes after it."""

    def __init__(self, body, head, after=lambda z: z):
        super().__init__()
        self.body, self.head, self.after = body, head, after

    def forward(self, x):
        return self.after(self.head(self.body(x)))


def vectors(head, after=lambda z: z):
    torch.manual_seed(0)
    return Net(nn.Sequential(nn.Linear(5, 6), nn.Tanh()), head, after).eval(), torch.randn(40, 5)


def images(head, after):
    torch.manual_seed(0)
    return Net(nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh()), head, after).eval(), torch.randn(20, 3, 7, 7)


LINEAR = {
    "plain": vectors(nn.Linear(6, 4)),
    "without bias": vectors(nn.Linear(6, 4, bias=False)),
    "behind dropout and identity": vectors(nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5), nn.Identity())),
    "divided by a temperature": vectors(nn.Linear(6, 4), lambda z: z / 0.7),
    "multiplied in place": vectors(nn.Linear(6, 4), lambda z: z.mul_(3)),
    "negated": vectors(nn.Linear(6, 4), lambda z: -z),
    "behind log-softmax": vectors(nn.Linear(6, 4), lambda z: z.log_softmax(1)),
    "cast": vectors(nn.Linear(6, 4), lambda z: z.double()),
    "1×1 convolution after pooling": images(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 4, 1)), lambda z: z.flatten(1)
    ),
    "1×1 convolution before pooling": images(nn.Conv2d(6, 4, 1), lambda z: z.mean((2, 3))),
}


@pytest.mark.parametrize("name", LINEAR)
def test_features_times_weight_plus_bias_are_the_logits(name):
    model, inputs = LINEAR[name]
    head = head_of(model, inputs[:16])
    found = features_of(model, inputs, head)
    assert head.linear and found.linear and head.bias == (name != "without bias")
    layer = next(m for m in reversed(list(model.head.modules())) if hasattr(m, "weight"))
    assert head.module is layer
    expected = head.scale * F.linear(found.features, layer.weight.flatten(1), layer.bias)
    logits = model(inputs.clone()).detach().float()
    if name == "behind log-softmax":
        expected, logits = expected.log_softmax(1), logits.log_softmax(1)
    torch.testing.assert_close(expected, logits, rtol=1e-4, atol=1e-5)
    assert head.scale == pytest.approx(
        {"divided by a temperature": 1 / 0.7, "multiplied in place": 3, "negated": -1}.get(name, 1)
    )


def tokens(after, cause=None):
    torch.manual_seed(0)
    return Net(nn.Sequential(nn.Embedding(9, 6, padding_idx=0), nn.Tanh()), nn.Linear(6, 4), after).eval()


def test_a_head_on_every_token_of_which_the_last_that_is_no_padding_counts():
    ids = torch.randint(1, 9, (12, 5), generator=torch.Generator().manual_seed(0))
    ids[::3, 3:] = 0
    last = (ids != 0).sum(1) - 1
    model = tokens(lambda z: z[torch.arange(len(z)), last[: len(z)]])
    found = features_of(model, ids)
    assert found.linear
    torch.testing.assert_close(found.features, model.body(ids)[torch.arange(12), last].detach())


def test_a_head_on_every_token_averaged():
    model, ids = tokens(lambda z: z.mean(1)), torch.randint(0, 9, (12, 5))
    found = features_of(model, ids)
    assert found.linear
    torch.testing.assert_close(found.features, model.body(ids).mean(1).detach())


NOT_LINEAR = {
    "a subclass that computes a cosine": vectors(Cosine(6, 4, bias=False)),
    "spectral norm": vectors(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 4))),
    "weight norm": vectors(nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))),
}


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_of_a_head_that_is_not_linear_the_features_are_right_and_the_reason_is_given(name):
    model, inputs = NOT_LINEAR[name]
    found = features_of(model, inputs)
    torch.testing.assert_close(found.features, model.body(inputs).detach())
    assert not found.linear and "'head'" in found.reason


def test_one_logit_for_two_classes_has_features_and_no_closed_form():
    model, inputs = vectors(nn.Linear(6, 1))
    audited = AuditedModel(model, n_classes=2).returns(OutputAsLogits("logit"))
    logits, features = audited.predict(inputs)
    np.testing.assert_allclose(features, model.body(inputs).detach().numpy())
    np.testing.assert_allclose(logits[:, 1], model.head(model.body(inputs)).detach().numpy()[:, 0])
    assert not audited.head.linear and "one logit for two classes" in audited.head.reason


def test_two_heads_whose_mean_is_taken_are_named_as_absent():
    class Distilled(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head, self.head_dist = nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(6, 4)

        def forward(self, x):
            h = self.body(x)
            return (self.head(h) + self.head_dist(h.tanh())) / 2

    from scoring.models import last_block_and_head

    found = features_of(Distilled(), torch.randn(9, 5))
    assert found.features is None and "no single layer" in found.reason
    assert last_block_and_head(Distilled(), torch.randn(9, 5)) == ("body", "head", "head_dist")


def test_what_a_later_batch_shows_takes_the_linearity_back():
    """Logits that are clamped where they are large: the first batch has none."""
    model, inputs = vectors(nn.Linear(6, 4), lambda z: z.clamp(-1, 1))
    small, large = inputs * 1e-3, inputs * 100
    audited = AuditedModel(model, n_classes=4)
    _, features = audited.predict(small)
    assert audited.head.linear and np.isfinite(features).all()
    _, features = audited.predict(torch.cat([small[:5], large]))
    expected = model.head(model.body(torch.cat([small[:5], large]))).detach().abs().amax(1) <= 1
    assert np.array_equal(np.isfinite(features).all(1), expected.numpy()) and np.isfinite(features[:5]).all()


def test_a_learned_temperature_is_another_one_at_each_checkpoint(tmp_path):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.t = nn.Linear(5, 4), nn.Parameter(torch.tensor(1.0))

        def forward(self, x):
            return self.fc(x) * self.t

    from scoring.models import find_checkpoints

    model, inputs = Scaled(), torch.randn(9, 5)
    for t in (2.0, 3.0):
        torch.save({**model.state_dict(), "t": torch.tensor(t)}, tmp_path / f"{t:.0f}.pt")
    audited = AuditedModel(model, find_checkpoints("*.pt", tmp_path), n_classes=4)
    for number, t in enumerate((2.0, 3.0)):
        with audited.at(number):
            _, features = audited.predict(inputs)
        assert audited.head.scale == pytest.approx(t) and audited.head.linear
        np.testing.assert_array_equal(features, inputs.numpy())


def test_a_model_that_normalises_its_input_in_place_predicts_the_same_twice():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(5, 4)

        def forward(self, x):
            return self.head(x.sub_(0.5).div_(0.25))

    inputs = torch.randn(9, 5)
    before = inputs.clone()
    audited = AuditedModel(InPlace(), n_classes=4)
    first, features = audited.predict(inputs)
    again, _ = audited.predict(inputs)
    assert torch.equal(inputs, before)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(features, ((before - 0.5) / 0.25).numpy(), rtol=1e-6)


def test_autocast_rounds_and_is_still_linear():
    class Auto(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(5, 6), nn.Linear(6, 4)

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return self.head(self.body(x).relu()).float()

    found = features_of(Auto(), torch.randn(30, 5))
    assert found.linear and found.features.shape == (30, 6)


def test_a_head_that_shares_its_weight_or_runs_twice_has_features_and_no_closed_form():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.Embedding(4, 6), nn.Linear(6, 4, bias=False)
            self.head.weight = self.words.weight

        def forward(self, ids):
            return self.head(self.words(ids).mean(1).tanh())

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 4)

        def forward(self, x):
            return self.head(self.head(x).tanh())

    tied = features_of(Tied(), torch.randint(0, 4, (9, 5)))
    assert not tied.linear and "shares its weight with 'words'" in tied.reason and tied.features.shape == (9, 6)
    model, inputs = Twice(), torch.randn(9, 4)
    twice = features_of(model, inputs)
    assert not twice.linear and "runs 2 times" in twice.reason
    torch.testing.assert_close(twice.features, model.head(inputs).tanh().detach())
