"""VoG of the architectures that people classify texts with, tiny and with random weights."""

import copy
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from scoring.audit.errors import HardlookError
from scoring.gradients import Slot
from scoring.gradients.gradient_variance import vog

transformers = pytest.importorskip("transformers")

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
COMMON = {"vocab_size": 100, "num_labels": 3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MODELS = {
    "Bert": SMALL,
    "Roberta": SMALL,
    "Electra": SMALL | {"embedding_size": 16},
    "DebertaV2": SMALL,
    "ModernBert": SMALL | {"cls_token_id": 1, "sep_token_id": 2},
    "Llama": SMALL,
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
}


def build(name, **config):
    """A sequence classifier of that architecture with random weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = getattr(transformers, f"{name}Config")(**COMMON | config)
        return getattr(transformers, f"{name}ForSequenceClassification")(made).eval()


def naive_vog(model, states, ids, classes):
    """In float64, at the output of the input embedding: per coordinate, then over coordinates and real tokens."""
    maps, kept = [], []

    def keep(_module, _inputs, output):
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()

    handle = model.get_input_embeddings().register_forward_hook(keep)
    for state in states:
        model.load_state_dict(state)
        logits = model(ids).logits
        maps.append(torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), kept.pop())[0].numpy())
    handle.remove()
    real = (ids != 0).numpy()
    return (np.std(maps, axis=0).mean(2) * real).sum(1) / real.sum(1)


@pytest.mark.parametrize("name", MODELS)
def test_the_vog_of_a_transformer_is_no_rounding_noise(name):
    torch.manual_seed(0)
    model, ids = build(name, **MODELS[name]), torch.randint(3, 100, (16, 10))
    for row in range(16):
        ids[row, 4 + row % 7 :] = 0
    classes = torch.arange(16) % 3
    states = [
        {
            key: value + 0.05 * step * torch.randn_like(value) if value.is_floating_point() else value
            for key, value in model.state_dict().items()
        }
        for step in range(3)
    ]
    slot = Slot(model)
    found = vog(slot, states, ids, classes, classes, batch_size=8)["all_label_logit"]
    double = copy.deepcopy(model).double()
    wanted = naive_vog(
        double, [{k: v.double() if v.is_floating_point() else v for k, v in s.items()} for s in states], ids, classes
    )
    assert not slot.notes
    np.testing.assert_allclose(found, wanted, rtol=1e-3)
    assert spearmanr(found, wanted).statistic >= 0.999


def test_a_model_that_reads_the_tokens_in_encoder_and_decoder_is_refused():
    model = build(
        "Bart",
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        decoder_start_token_id=2,
    )
    ids = torch.randint(3, 100, (4, 6))
    ids[:, -1] = 2
    classes = torch.arange(4) % 3
    with pytest.raises(HardlookError, match="called 2 times"):
        vog(Slot(model), [model.state_dict()] * 2, ids, classes, classes)
