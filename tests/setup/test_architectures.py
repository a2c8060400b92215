"""State dicts of torchvision, timm and of one's own → the models that they fit."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models as zoo

from scoring.setup.architectures import Fit, body_of, fitting

NAMES = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_v2_t",
    "vgg11_bn",
    "vit_b_32",
]


def state_of(name, classes):
    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return zoo.get_model(name, weights=None, num_classes=classes, **more).state_dict()


@pytest.mark.parametrize("name", NAMES)
def test_each_family_of_torchvision_is_told_whatever_the_number_of_classes(name):
    assert fitting(state_of(name, 7)) == [Fit(name, 7)]


def test_the_order_of_the_tensors_and_a_common_prefix_do_not_matter(tmp_path):
    state = {f"module.net.{key}": value for key, value in state_of("resnet18", 5).items()}
    save_file({key: value.clone() for key, value in state.items()}, tmp_path / "a.safetensors")
    assert fitting(load_file(tmp_path / "a.safetensors")) == [Fit("resnet18", 5)]


def test_a_single_shape_that_differs_fits_nothing():
    state = state_of("resnet18", 5)
    state["layer1.0.conv1.weight"] = torch.zeros(64, 64, 5, 5)
    assert fitting(state) == []


def test_a_replaced_head_leaves_the_body_known():
    net = zoo.resnet18()
    net.fc = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 3))
    assert fitting(net.state_dict()) == [] and body_of(net.state_dict()) == ["resnet18"]


def test_a_state_dict_without_matrices_fits_nothing():
    assert fitting({"a": torch.zeros(3)}) == [] and body_of({"a": torch.zeros(3)}) == []
