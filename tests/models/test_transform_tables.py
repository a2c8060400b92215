"""Tables against the pipelines of torchvision and timm themselves: equal in every bit, or no table."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models as zoo
from torchvision import transforms as v1
from torchvision.transforms import v2

from scoring.audit.errors import HardlookError
from scoring.models import load_transform
from scoring.models.transform_tables import as_table, gives_the_same

WEIGHTS = [weights for name in zoo.list_models(module=zoo) for weights in zoo.get_model_weights(name)]


@pytest.mark.parametrize("weights", WEIGHTS[::9], ids=str)
def test_presets_of_torchvisions_weights_have_a_table_that_is_equal_bit_for_bit(weights):
    table = as_table(weights.transforms())
    image = Image.fromarray(np.random.default_rng(7).integers(0, 256, (517, 389, 3), dtype=np.uint8))
    assert torch.equal(load_transform(table, ".")(image), weights.transforms()(image))


def test_every_preset_of_torchvision_has_a_table():
    kinds = {repr(weights.transforms()): weights.transforms() for weights in WEIGHTS}
    assert len(kinds) > 10 and all(as_table(preset) is not None for preset in kinds.values())


def test_models_of_timm_have_one_but_for_those_that_pad():
    timm = pytest.importorskip("timm")
    without = []
    for name in timm.list_models(pretrained=True)[::60]:
        data = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        if as_table(timm.data.create_transform(**data, is_training=False)) is None:
            without.append(data["crop_mode"])
    assert set(without) <= {"border"}


@pytest.mark.parametrize("module", [v1, v2])
def test_pipelines_of_ones_own_have_one_where_their_steps_do(module):
    steps = [module.Resize([40, 50], interpolation=v1.InterpolationMode.LANCZOS), module.CenterCrop((32, 48))]
    steps.append(v1.ToTensor())
    table = as_table(module.Compose([*steps, module.Normalize([0.5] * 3, [0.2] * 3)]))
    assert table == {
        "mode": "RGB",
        "resize": [40, 50],
        "interpolation": "lanczos",
        "crop": [32, 48],
        "mean": [0.5] * 3,
        "std": [0.2] * 3,
    }


@pytest.mark.parametrize(
    "steps",
    [
        [v1.Resize(40), v1.RandomHorizontalFlip(), v1.ToTensor()],
        [v1.CenterCrop(20), v1.Resize(40), v1.ToTensor()],
        [v1.Grayscale(3), v1.Resize(40), v1.ToTensor()],
        [v1.Resize(40, max_size=60), v1.ToTensor()],
        [v1.Resize(40)],
        [v2.Resize(40), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],  # times 1/255, not divided by 255
    ],
)
def test_other_steps_and_other_orders_have_none(steps):
    assert as_table(v1.Compose(steps)) is None


def test_a_table_that_differs_in_one_number_is_not_the_same():
    preset = zoo.ResNet18_Weights.DEFAULT.transforms()
    table = as_table(preset)
    assert gives_the_same(table, preset)
    for change in ({"interpolation": "bicubic"}, {"crop": 223}, {"mean": [0.485, 0.456, 0.4061]}):
        assert not gives_the_same({**table, **change}, preset)


@pytest.mark.parametrize("value", ["cubic", 3, ""])
def test_an_unknown_interpolation_is_refused(value):
    with pytest.raises(HardlookError, match="interpolation"):
        load_transform({"interpolation": value}, ".")


def test_lanczos_works_on_images_and_says_so_of_arrays():
    transform = load_transform({"resize": 8, "interpolation": "lanczos"}, ".")
    assert transform(Image.new("RGB", (20, 20))).shape == (3, 8, 8)
    with pytest.raises(HardlookError, match="works on images alone"):
        transform(np.zeros((20, 20, 3), np.float32))
