"""The layer that embeds tokens is found on the batch, whatever else the model looks up; padding is told
apart."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from scoring.audit.errors import HardlookError
from scoring.gradients import Slot, input_gradients
from scoring.gradients.gradient_variance import vog, vog_maps
from scoring.gradients.token_embedding import padding_id, padding_of_transform, token_layer
from scoring.scorers.odin import odin

WORDS = torch.tensor([[7, 3, 9, 2], [4, 4, 1, 5], [8, 2, 2, 6]])
CLASSES = torch.tensor([1, 2, 0])


class Reader(nn.Module):
    """Position, segment and token embeddings (in this order), then what ``read`` makes of the token
    numbers."""

    def __init__(self, embedding=None, read=None, write=None):
        super().__init__()
        self.positions, self.segments = nn.Embedding(12, 4), nn.Embedding(2, 4)
        self.words, self.head = embedding or nn.Embedding(12, 4), nn.Linear(4, 3)
        self.read, self.write = read or (lambda ids: ids), write or (lambda vectors: vectors)

    def forward(self, ids):
        place = self.positions(torch.arange(ids.shape[1])) + self.segments(torch.zeros_like(ids))
        embedded = self.write(self.words(self.read(ids)))
        return self.head((embedded + place).tanh().mean(1))


def expected(model, tokens, classes):
    """The definition: the looked-up vectors, (n, t, dim), are what is differentiated by."""
    vectors = nn.functional.embedding(tokens, model.words.weight).detach().requires_grad_()
    place = model.positions(torch.arange(tokens.shape[1])) + model.segments(torch.zeros_like(tokens))
    logits = model.head((vectors + place).tanh().mean(1))
    return torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), vectors)[0]


class Scaled(nn.Embedding):
    """A subclass, as some language models have it."""

    def forward(self, ids):
        return super().forward(ids) * 1.0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"embedding": Scaled(12, 4)},
        {"read": lambda ids: ids.T, "write": lambda vectors: vectors.transpose(0, 1)},
        {"read": lambda ids: ids.reshape(-1), "write": lambda vectors: vectors.view(-1, 4, 4)},
        {"read": lambda ids: ids.int()},
    ],
)
def test_the_embedding_is_the_one_that_receives_the_tokens(options):
    torch.manual_seed(0)
    model = Reader(**options).double()
    assert token_layer(model, WORDS) == "words"
    torch.testing.assert_close(input_gradients(model, WORDS, CLASSES), expected(model, WORDS, CLASSES))


def test_transposed_tokens_are_told_apart_in_a_square_batch():
    torch.manual_seed(0)
    model = Reader(read=lambda ids: ids.T, write=lambda vectors: vectors.transpose(0, 1)).double()
    square, classes = torch.cat([WORDS, WORDS[:1] + 1]), torch.tensor([1, 2, 0, 1])
    torch.testing.assert_close(input_gradients(model, square, classes), expected(model, square, classes))


def test_numbers_that_the_model_maps_before_it_looks_them_up_are_followed():
    torch.manual_seed(0)
    model = Reader(read=lambda ids: (ids + 1) % 12).double()
    assert token_layer(model, WORDS) == "words"
    torch.testing.assert_close(input_gradients(model, WORDS, CLASSES), expected(model, (WORDS + 1) % 12, CLASSES))


@pytest.mark.parametrize("tokens", [torch.zeros(3, 4, dtype=torch.long), torch.arange(4)[None]])
def test_a_batch_that_looks_like_segments_or_positions_is_told_apart(tokens):
    assert token_layer(Reader(), tokens) == "words"


def test_a_model_that_writes_into_its_tokens_changes_nothing():
    torch.manual_seed(0)
    model = Reader(read=lambda ids: ids.add_(1)).double()
    before = WORDS.clone()
    first, second = (input_gradients(model, WORDS, CLASSES) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(WORDS, before)


class Twice(nn.Module):
    """Encoder and decoder that look the tokens up in the same weights."""

    def __init__(self, tied):
        super().__init__()
        self.first, self.second, self.head = nn.Embedding(12, 4), nn.Embedding(12, 4), nn.Linear(4, 3)
        if tied:
            self.second.weight = self.first.weight

    def forward(self, ids):
        other = ids.roll(1, 1) if self.second.weight is self.first.weight else ids
        return self.head((self.first(ids) + self.second(other)).mean(1))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Twice(True), "called 2 times"),
        (Twice(False), r"2 embeddings receive the tokens \(first, second\)"),
        (Reader(read=lambda ids: torch.cat([ids[:, :1], ids], 1), write=lambda v: v[:, 1:]), "0 embeddings receive"),
    ],
)
def test_where_no_single_lookup_is_the_input_the_model_is_refused(model, message):
    with pytest.raises(HardlookError, match=message):
        input_gradients(model, WORDS, CLASSES)


def test_a_tied_head_is_no_second_lookup():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.Embedding(12, 4), nn.Linear(4, 12, bias=False)
            self.head.weight = self.words.weight

        def forward(self, ids):
            return self.head(self.words(ids).tanh().mean(1))

    model = Tied().double()
    vectors = model.words(WORDS).detach().requires_grad_()
    logits = model.head(vectors.tanh().mean(1))
    (wanted,) = torch.autograd.grad(logits.gather(1, CLASSES[:, None]).sum(), vectors)
    torch.testing.assert_close(input_gradients(model, WORDS, CLASSES), wanted)


# -- VoG and ODIN of tokens ------------------------------------------------------------------------------------


def naive_vog(models, tokens, classes, real):
    """Per coordinate, then the mean over coordinates and real tokens; the map, and its mean."""
    maps = np.std([expected(m, tokens, classes).numpy() for m in models], axis=0).mean(2)
    return maps * real, (maps * real).sum(1) / real.sum(1)


@pytest.mark.parametrize(("padding", "told"), [(2, "config"), (4, "embedding"), (1, "setting"), (None, "nobody")])
def test_padding_is_left_out_of_the_vog_of_a_text(padding, told):
    torch.manual_seed(0)
    idx = padding if told == "embedding" else None
    models = [Reader(nn.Embedding(12, 4, padding_idx=idx)).double() for _ in range(4)]
    if told == "config":
        models[0].config = SimpleNamespace(pad_token_id=padding)
    states, options = [m.state_dict() for m in models], {"padding": padding} if told == "setting" else {}
    real = np.ones(WORDS.shape, bool) if padding is None else (padding != WORDS).numpy()
    wanted_map, wanted = naive_vog(models, WORDS, CLASSES, real)
    found = vog(Slot(models[0]), states, WORDS, CLASSES, CLASSES, **options)["all_label_logit"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    maps = vog_maps(Slot(models[0]), states, WORDS, CLASSES, CLASSES, **options)["all_label_logit"]
    np.testing.assert_allclose(maps, wanted_map, rtol=1e-5)


def test_a_text_without_tokens_has_no_number():
    models = [Reader(nn.Embedding(12, 4, padding_idx=0)) for _ in range(3)]
    tokens = torch.cat([WORDS, torch.zeros(1, 4, dtype=torch.long)])
    classes = torch.tensor([1, 2, 0, 1])
    found = vog(Slot(models[0]), [m.state_dict() for m in models], tokens, classes, classes)["late_label_logit"]
    assert np.isfinite(found).tolist() == [True, True, True, False]


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.EmbeddingBag(12, 4), nn.Linear(4, 3)

    def forward(self, ids):
        return self.head(self.words(ids).tanh())


def test_a_bag_of_embeddings_is_differentiated_at_its_output_and_has_no_map():
    torch.manual_seed(0)
    models = [Bag().double() for _ in range(3)]
    gradients = []
    for model in models:
        bag = model.words(WORDS).detach().requires_grad_()
        logits = model.head(bag.tanh())
        gradients.append(torch.autograd.grad(logits.gather(1, CLASSES[:, None]).sum(), bag)[0])
    torch.testing.assert_close(input_gradients(models[-1], WORDS, CLASSES), gradients[-1])
    states = [m.state_dict() for m in models]
    found = vog(Slot(models[0]), states, WORDS, CLASSES, CLASSES)["all_label_logit"]
    np.testing.assert_allclose(found, torch.stack(gradients).numpy().std(0).mean(1), rtol=1e-5)
    maps = vog_maps(Slot(models[0]), states, WORDS, CLASSES, CLASSES)["all_label_logit"]
    assert maps.shape == WORDS.shape and np.isnan(maps).all()


def test_odin_moves_the_embedding_that_receives_the_tokens():
    torch.manual_seed(0)
    model = Reader().double().eval()
    place = model.positions(torch.arange(4)) + model.segments(torch.zeros_like(WORDS))
    vectors = model.words(WORDS).detach().requires_grad_()
    log_p = (model.head((vectors + place).tanh().mean(1)) / 10).log_softmax(1)
    (towards,) = torch.autograd.grad(log_p.max(1).values.sum(), vectors)
    moved = model.head((vectors + 0.1 * towards.sign() + place).tanh().mean(1))
    found = odin(model, WORDS, temperature=10.0, epsilon=0.1)
    np.testing.assert_allclose(found, (moved / 10).softmax(1).max(1).values.detach().numpy(), rtol=1e-6)


def test_who_says_which_token_is_padding():
    model = nn.Module()
    assert padding_id(model, nn.Embedding(3, 2)) is None
    assert padding_id(model, nn.Embedding(3, 2, padding_idx=2)) == 2
    model.config = SimpleNamespace(pad_token_id=None)
    assert padding_id(model, nn.Embedding(3, 2, padding_idx=2)) == 2
    assert padding_of_transform(lambda text: text) is None
    assert padding_of_transform(SimpleNamespace(pad_token_id=0)) == 0
