"""The evaluation transform: from images, arrays and vectors to what the model sees."""

import numpy as np
import pytest
import torch
from PIL import Image

from scoring.audit.errors import HardlookError
from scoring.models.transforms import load_transform

from ..nets import write


def picture(mode="RGB", size=(12, 10)):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def test_a_table_is_the_transform_that_torchvision_makes_of_it():
    from torchvision.transforms import v2

    table = {"resize": 8, "crop": [6, 7], "mode": "RGB", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    oracle = v2.Compose(
        [
            v2.Resize(8),
            v2.CenterCrop([6, 7]),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(table["mean"], table["std"]),
        ]
    )
    torch.testing.assert_close(load_transform(table, ".")(picture()), oracle(picture()).as_subclass(torch.Tensor))


@pytest.mark.parametrize(
    "mode, channels", [("L", 1), ("1", 1), ("LA", 1), ("RGB", 3), ("RGBA", 3), ("P", 3), ("CMYK", 3)]
)
def test_pictures_of_every_mode_become_grey_or_colour(mode, channels):
    plain = load_transform(None, ".")(picture(mode))
    assert plain.shape == (channels, 10, 12) and plain.dtype == torch.float32 and 0 <= plain.min() <= plain.max() <= 1
    for wanted, number in (("L", 1), ("RGB", 3)):
        assert load_transform({"mode": wanted}, ".")(picture(mode)).shape == (number, 10, 12)
    if mode == "P":
        torch.testing.assert_close(plain, load_transform(None, ".")(picture("P").convert("RGB")))


def test_an_array_is_transformed_as_the_picture_that_it_is():
    table = load_transform({"resize": 8, "crop": 6, "mean": 0.5, "std": 0.25}, ".")
    colour, grey = picture(), picture("L")
    assert torch.equal(table(np.asarray(colour)), table(colour))
    assert torch.equal(table(np.asarray(grey)[..., None]), table(grey))
    assert torch.equal(table(np.asarray(grey)), table(grey))


def test_numbers_that_are_no_bytes_are_left_in_their_range():
    plain = load_transform(None, ".")
    digits = np.arange(64, dtype=np.float64).reshape(8, 8)
    assert torch.equal(plain(digits), torch.arange(64.0).reshape(1, 8, 8))
    assert torch.equal(plain(digits.astype(">f4")), plain(digits))
    assert plain(np.full((4, 4), 65535, np.uint16)).max() == 1
    assert plain(Image.fromarray(np.full((4, 4), 65535, np.uint16))).max() == 1
    assert plain(np.zeros((3, 9, 8), np.float32)).shape == plain(np.zeros((9, 8, 3), np.float32)).shape == (3, 9, 8)
    assert load_transform({"mode": "RGB", "resize": 6}, ".")(Image.fromarray(np.ones((4, 4), np.uint16))).shape == (
        3,
        6,
        6,
    )


def test_vectors_pass_and_are_normalised_per_element():
    assert torch.equal(load_transform(None, ".")(np.array([1, 2], np.int64)), torch.tensor([1.0, 2.0]))
    assert torch.equal(load_transform({"mean": [1, 2], "std": 2}, ".")([3.0, 2.0]), torch.tensor([1.0, 0.0]))
    series = np.zeros((2, 50), np.float32)
    assert load_transform(None, ".", "vector")(series).shape == (2, 50)
    with pytest.raises(HardlookError, match="needed an image"):
        load_transform({"resize": 4}, ".")(np.zeros(3))


def test_a_transform_of_the_users_own_is_taken_as_it_is(tmp_path):
    write(
        tmp_path,
        own="def transform(x):\n    return x + 1\nclass Twice:\n    def __call__(self, x):\n        return 2 * x",
    )
    assert load_transform("own.py:transform", tmp_path)(1) == 2
    assert load_transform("own.py:Twice", tmp_path)(3) == 6


@pytest.mark.parametrize(
    "table, said",
    [
        ({"resise": 3}, "did you mean resize"),
        ({"resize": 0}, "needed pixels"),
        ({"crop": [1, 2, 3]}, "height, width"),
        ({"mean": "0.5"}, "needed a number"),
        ({"std": [1, 0]}, "other than 0"),
        ({"mode": "BGR"}, "'L' .grey. or 'RGB'"),
    ],
)
def test_a_wrong_key_or_value_of_a_transform_is_refused(table, said):
    with pytest.raises(HardlookError, match=said):
        load_transform(table, ".")


def test_what_a_transform_cannot_take_is_told():
    with pytest.raises(HardlookError, match="got str"):
        load_transform(None, ".")("a text")
    with pytest.raises(HardlookError, match="got ndarray"):
        load_transform(None, ".", "text")(np.zeros(2))
    with pytest.raises(HardlookError, match="3 numbers, an example has 1 channels"):
        load_transform({"mean": [0, 0, 0]}, ".")(picture("L"))
