"""scoring.models.text: tokens without a vocabulary, and the classifier whose gradients tell words apart."""

import numpy as np
import pytest
import torch

from scoring.audit.errors import HardlookError
from scoring.gradients import Slot, input_gradients
from scoring.models.text import BagOfEmbeddings, HashedWords
from scoring.models.transforms import load_transform
from scoring.scorers.vog import vog, vog_maps


@pytest.mark.parametrize("text", ["The cat, the CAT!", "naïve ☕ 中文 d'accord", "a\0b \u202ec", "", "x" * 5000])
def test_every_span_is_the_word_whose_number_stands_there(text):
    transform = HashedWords(length=6, buckets=1000)
    numbers, spans = transform(text), transform.spans(text)
    assert numbers.shape == (6,) and len(spans) == int((numbers > 0).sum()) <= 6
    for at, (start, end) in enumerate(spans):
        assert transform(text[start:end])[0] == numbers[at]


def test_tokens_are_the_same_in_every_process():
    """A hash that changed from process to process would make every checkpoint useless."""
    assert HashedWords(length=3)("The cat").tolist() == [1 + 0x3C456DE6 % 16383, 1 + 0x9E5E43A8 % 16383, 0]


def test_the_transform_table_of_text_is_checked():
    assert load_transform(None, ".", "text")("one two").shape == (256,)
    assert load_transform({"length": 8}, ".", "text")("one two").shape == (8,)
    with pytest.raises(HardlookError, match="lenght"):
        load_transform({"lenght": 8}, ".", "text")
    with pytest.raises(HardlookError, match="length = 0"):
        load_transform({"length": 0}, ".", "text")


def test_the_order_of_words_and_padding_do_not_matter():
    model = BagOfEmbeddings(3, buckets=50, width=5, hidden=4).eval()
    tokens = torch.tensor([[7, 3, 9, 0, 0], [9, 7, 3, 0, 0]])
    a, b = model(tokens)
    assert torch.allclose(a, b, atol=1e-6)
    assert torch.allclose(model(tokens[:1, :3])[0], a, atol=1e-6)
    assert torch.isfinite(model(torch.zeros(1, 5, dtype=torch.int64))).all()


def test_gradients_differ_from_word_to_word_and_vanish_on_padding():
    torch.manual_seed(0)
    model = BagOfEmbeddings(3, buckets=50, width=5, hidden=4)
    gradient = input_gradients(model, torch.tensor([[7, 3, 9, 0]]), torch.tensor([1]))[0].abs().sum(1)
    assert gradient[3] == 0 and len(set(gradient[:3].tolist())) == 3


def test_the_vog_of_tokens_is_that_of_autograd_by_hand():
    """∂ logit / ∂ embedding output by hand: the model from its embedded tokens on, differentiated by autograd."""
    tokens, classes = torch.tensor([[7, 3, 9, 0], [4, 4, 0, 0]]), np.array([1, 2])
    states, maps = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        model = BagOfEmbeddings(3, buckets=50, width=5, hidden=4).double().eval()
        states.append(model.state_dict())
        embedded = model.embedding(tokens).detach().requires_grad_()
        weights = (embedded @ model.attention.weight[0]).masked_fill(tokens == 0, -1e300).softmax(1)
        logits = model.head(torch.nn.functional.gelu(model.block[0]((weights[..., None] * embedded).sum(1))))
        (gradient,) = torch.autograd.grad(logits[[0, 1], classes].sum(), embedded)
        maps.append(gradient.numpy())
    expected = np.std(maps, axis=0).mean(2)  # (text, position); positions that are padding are left out of the mean
    found = vog_maps(Slot(model), states, tokens, classes, classes)["late_label_logit"]
    assert found == pytest.approx(expected * (tokens.numpy() != 0), rel=1e-5, abs=1e-12)
    raw = vog(Slot(model), states, tokens, classes, classes)["late_label_logit"]
    assert raw == pytest.approx([expected[0, :3].mean(), expected[1, :2].mean()], rel=1e-5)
