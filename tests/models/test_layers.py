"""The head, the features that enter it, and the last block: seen in a forward pass."""

import copy

import pytest
import torch
from torch import nn

from scoring.audit.errors import HardlookError
from scoring.models import build_model
from scoring.models.head import features_of, head_of
from scoring.models.layers import last_block_and_head, named_layers, select_layers

from ..nets import small_cnn


class Backwards(nn.Module):
    """Registers its head first and an unused Linear last."""

    def __init__(self):
        super().__init__()
        self.out, self.body, self.spare = nn.Linear(6, 3), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.body(x).relu())


def test_the_head_is_what_runs_last_and_not_what_is_registered_last():
    model, inputs = Backwards(), torch.randn(5, 4)
    assert head_of(model, inputs)[:2] == ("out", model.out)
    found = features_of(model, inputs)
    assert torch.equal(found.features, model.body(inputs).relu()) and torch.equal(found.logits, model(inputs))
    assert last_block_and_head(model, inputs) == ("body", "out")


def test_a_head_under_spectral_norm_or_before_an_identity_is_found():
    model = nn.Sequential(nn.Linear(4, 6), nn.utils.parametrizations.spectral_norm(nn.Linear(6, 3)), nn.Identity())
    assert head_of(model, torch.randn(2, 4)).name == "1"


def test_a_model_whose_last_layer_is_pooled_over_a_wider_kernel_has_no_features():
    conv = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = features_of(conv, torch.randn(2, 1, 8, 8))
    assert found.features is None and found.logits.shape == (2, 3) and "no single layer" in found.reason
    assert last_block_and_head(conv, torch.randn(2, 1, 8, 8)) == ("0",)


def test_looking_at_a_model_leaves_it_as_it_was():
    model = small_cnn().train()
    before = copy.deepcopy(model.state_dict())
    last_block_and_head(model, torch.randn(4, 1, 8, 8))
    features_of(model, torch.randn(4, 1, 8, 8))
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_last_block_is_found_in_usual_architectures():
    images = torch.randn(1, 3, 32, 32)
    assert last_block_and_head(build_model("resnet18", {"num_classes": 4}), images) == ("layer4", "fc")
    assert last_block_and_head(small_cnn(), torch.randn(2, 1, 8, 8)) == ("block2", "head")
    flat = nn.Sequential(*small_cnn().block1, *small_cnn().block2, *small_cnn().pool, nn.Linear(8, 3))
    assert last_block_and_head(flat, torch.randn(2, 1, 8, 8)) == ("3", "4", "8")
    assert last_block_and_head(nn.Linear(2, 3), torch.randn(2, 2)) == ("",)


def test_a_vision_transformer_gives_its_last_encoder_layer():
    from torchvision.models import VisionTransformer

    model = VisionTransformer(
        image_size=16, patch_size=8, num_layers=3, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=4
    )
    assert last_block_and_head(model, torch.randn(1, 3, 16, 16)) == (
        "encoder.layers.encoder_layer_2",
        "encoder.ln",
        "heads.head",
    )


def test_layers_are_chosen_by_name_container_or_pattern():
    model = small_cnn()
    assert list(named_layers(model)) == ["block1.0", "block1.1", "block2.0", "block2.1", "head"]
    assert select_layers(model, ["head", "block2"]) == ["block2.0", "block2.1", "head"]
    assert select_layers(model, "block*.1") == ["block1.1", "block2.1"]
    assert select_layers(model, "block?") == ["block1.0", "block1.1", "block2.0", "block2.1"]
    with pytest.raises(HardlookError, match="'blok2'.*did you mean block2"):
        select_layers(model, ["blok2"])


@pytest.mark.parametrize(
    "wrap",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.orthogonal,
        nn.utils.parametrizations.spectral_norm,
    ],
)
def test_a_parametrised_head_is_the_head_and_the_block_before_it_is_found(wrap):
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), wrap(nn.Linear(4, 3)))
    found = last_block_and_head(model, torch.randn(5, 6))
    assert found[-1] == "4" and "2" in found[:-1] and "0" not in found
