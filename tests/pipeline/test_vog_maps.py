"""A VoG map lies where the model looked."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from scoring.audit import Audit
from scoring.models.transforms import TableTransform
from scoring.pipeline.shards import Context
from scoring.pipeline.vog_maps import WHOLE, placed, write_vog_maps
from scoring.scorers.vog import VoG


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"resize": 40, "crop": 32}, (64, 96)),
        ({"resize": 40, "crop": 32}, (90, 60)),
        ({"crop": [20, 30]}, (50, 60)),
        ({"resize": [48, 40], "crop": 30}, (50, 60)),
    ],
)
def test_the_window_is_where_the_transform_takes_its_pixels_from(settings, size):
    """A ramp tells from where each pixel came: the first and last row of the crop are those of the window."""
    transform = TableTransform(**settings)
    for axis in (0, 1):
        ramp = np.broadcast_to(np.expand_dims((np.arange(size[axis]) + 0.5) / size[axis], 1 - axis), size)
        seen = transform(ramp.astype(np.float32)).mean(2 - axis)[0]
        top, height = transform.window(*size)[axis], transform.window(*size)[axis + 2]
        step = height / len(seen)
        expected = top + step * (torch.arange(len(seen)) + 0.5)
        assert torch.allclose(seen, expected, atol=0.6 * step + 1e-4)


def test_a_map_is_put_where_the_model_looked_and_nowhere_else():
    seen = TableTransform(crop=4).window(8, 6)
    whole = placed(np.ones((4, 4)), seen)
    assert whole.shape == (8, 6) and whole.sum() == 16
    assert whole[2:6, 1:5].all()


def test_a_crop_that_pads_is_cut_to_the_picture():
    seen = TableTransform(crop=8).window(4, 6)
    values = np.arange(64.0).reshape(8, 8)
    np.testing.assert_array_equal(placed(values, seen), values[2:6, 1:7])


def test_without_a_crop_a_map_stays_as_it_is():
    values = np.ones((3, 5))
    assert TableTransform(resize=3).window(30, 50) == WHOLE
    assert placed(values, WHOLE) is values


def test_kept_maps_cover_the_whole_picture(sample_copy):
    audit = Audit.open(sample_copy)
    context = Context(audit, audit.run(), device="cpu")
    context.inputs.transform = TableTransform(mode="L", crop=6)
    audit.run().maps.clear()
    assert write_vog_maps(context, VoG()) > 0
    one = min(audit.run().maps.ids())
    values = np.asarray(Image.open(io.BytesIO(audit.run().maps.get(one))))
    assert values.shape == (8, 8) and values[1:7, 1:7].max() == 255
    assert not values[[0, 7]].any() and not values[:, [0, 7]].any()
