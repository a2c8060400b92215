"""scoring.data.images: what Pillow, arrays and broken files become in a browser."""

import io
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from scoring.audit.errors import HardlookError
from scoring.data import images


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def gradient(mode="RGB", size=(40, 20)):
    return Image.linear_gradient("L").resize(size).convert(mode)


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        ("1", "L"),
        ("L", "L"),
        ("LA", "RGBA"),
        ("P", "RGB"),
        ("RGB", "RGB"),
        ("RGBA", "RGBA"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
        ("LAB", "RGB"),
        ("HSV", "RGB"),
        ("I", "L"),
        ("F", "L"),
        ("I;16", "L"),
    ],
)
def test_every_mode_becomes_one_that_browsers_show(mode, shown):
    image = Image.new(mode, (3, 2))
    assert images.rgb8(image).mode == shown
    assert images.picture(image).size == (3, 2)


def test_a_palette_keeps_its_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1])
    data = encoded(image, transparency=1)
    shown = images.rgb8(opened(data))
    assert [shown.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0, 255), (0, 255, 0, 0)]


def test_a_transparent_colour_of_an_rgb_png_is_kept():
    data = encoded(Image.new("RGB", (2, 2), (1, 2, 3)), transparency=(1, 2, 3))
    assert images.rgb8(opened(data)).getpixel((0, 0)) == (1, 2, 3, 0)


def test_cmyk_black_is_black_and_white_is_white():
    jpeg = encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG")
    assert max(opened(images.thumbnail(jpeg)).getpixel((4, 4))) < 10
    jpeg = encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG")
    assert min(opened(images.thumbnail(jpeg)).getpixel((4, 4))) > 245


def test_sixteen_bits_are_windowed_between_the_pictures_own_ends():
    values = np.array([[1000, 1500], [2000, 1000]], dtype=np.uint16)
    shown = opened(images.thumbnail(encoded(Image.fromarray(values), "TIFF")))
    assert np.asarray(shown).tolist() == [[0, 128], [255, 0]]
    assert np.asarray(images.array_picture(values)).tolist() == [[0, 128], [255, 0]]


def test_sixteen_bits_of_big_endian_files_are_read_alike():
    values = np.arange(6, dtype=np.uint16).reshape(2, 3) * 900
    little = Image.fromarray(values)
    big = Image.frombytes("I;16B", (3, 2), values.astype(">u2").tobytes())
    assert np.array_equal(np.asarray(images.rgb8(little)), np.asarray(images.rgb8(big)))


@pytest.mark.parametrize(
    "values",
    [
        np.full((2, 2), 7, dtype=np.uint16),
        np.full((2, 2), -3.0),
        np.zeros((2, 2)),
        np.full((2, 2), np.nan),
        np.array([[np.inf, 0.5]]),
        np.zeros((0, 4)),
    ],
)
def test_windowing_bears_constants_nothing_and_not_a_number(values):
    assert images.window(values).shape == values.shape
    assert images.window(values).dtype == np.uint8


def test_floats_from_zero_to_one_are_not_stretched():
    assert images.window(np.array([0.25, 0.5])).tolist() == [64, 128]
    assert images.window(np.ones(2)).tolist() == [255, 255]


@pytest.mark.parametrize(
    ("shape", "size", "mode"),
    [
        ((5, 7), (7, 5), "L"),
        ((5, 7, 1), (7, 5), "L"),
        ((1, 5, 7), (7, 5), "L"),
        ((5, 7, 3), (7, 5), "RGB"),
        ((3, 5, 7), (7, 5), "RGB"),
        ((5, 7, 4), (7, 5), "RGBA"),
        ((13, 50, 70), (70, 50), "RGB"),
        ((2, 50, 70), (70, 50), "L"),
        ((50, 70, 13), (70, 50), "RGB"),
        ((3, 3, 3), (3, 3), "RGB"),
    ],
)
def test_arrays_of_every_layout_become_pictures(shape, size, mode):
    shown = images.array_picture(np.zeros(shape, dtype=np.uint8))
    assert (shown.size, shown.mode) == (size, mode)


def test_channels_first_and_channels_last_look_the_same():
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    first = images.array_picture(np.moveaxis(values, -1, 0))
    assert np.array_equal(np.asarray(first), values)


@pytest.mark.parametrize("value", [np.zeros(3), np.zeros((1, 2, 3, 4)), "text", None, object()])
def test_what_is_no_picture_is_refused_with_its_shape_or_type(value):
    with pytest.raises(HardlookError, match="shape|needed an image"):
        images.picture(value)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = Image.new("RGB", (40, 24), "white")
    upright.paste("red", (0, 0, 20, 12))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = upright.transpose(_INVERSE[orientation]) if orientation in _INVERSE else upright
    jpeg = encoded(turned, "JPEG", exif=exif, quality=95)
    for data in (images.thumbnail(jpeg), images.browser_picture(jpeg)[0]):
        shown = opened(data)
        assert shown.size == (40, 24)
        assert np.abs(np.array(shown.getpixel((5, 5))) - (255, 0, 0)).max() < 12
        assert min(shown.getpixel((35, 18))) > 240


_INVERSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def test_a_large_rotated_photo_is_upright_in_its_thumbnail():
    exif = Image.Exif()
    exif[0x0112] = 6
    shown = opened(images.thumbnail(encoded(gradient(size=(1600, 800)), "JPEG", exif=exif)))
    assert shown.size == (128, 256)


def test_damaged_exif_does_not_matter():
    data = encoded(gradient(), "JPEG", exif=b"Exif\0\0nonsense that is no TIFF")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert opened(images.thumbnail(data)).size == (40, 20)


def test_small_pictures_are_kept_without_loss():
    values = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    shown = opened(images.thumbnail(values))
    assert shown.format == "PNG"
    assert np.array_equal(np.asarray(shown), values)


@pytest.mark.parametrize(("mode", "format"), [("RGB", "JPEG"), ("L", "JPEG"), ("RGBA", "WEBP")])
def test_large_pictures_shrink_to_the_longest_side(mode, format):
    shown = opened(images.thumbnail(encoded(gradient(mode, (1000, 400)))))
    assert (shown.format, shown.size) == (format, (256, 102))


def test_a_line_of_pixels_keeps_a_height():
    assert opened(images.thumbnail(encoded(gradient(size=(9000, 1))))).size == (256, 1)


def test_shrinking_leaves_the_original_alone():
    image = gradient(size=(600, 600))
    images.thumbnail(image)
    assert image.size == (600, 600)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"only text, renamed", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image"),
        (encoded(gradient("RGB", (300, 300)))[:200], "damaged"),
        (encoded(gradient("RGB", (300, 300)), "JPEG")[:1500], "damaged"),
        (b"\x89PNG\r\n\x1a\n", "not an image|damaged"),
    ],
)
def test_broken_files_give_their_reason(data, reason):
    with pytest.raises(HardlookError, match=reason):
        images.decode(data)
    with pytest.raises(HardlookError, match=reason):
        images.thumbnail(data)


def test_a_decompression_bomb_is_refused_before_it_unpacks():
    size = (30_000).to_bytes(4, "big")
    chunks = {b"IHDR": size + size + b"\x08\x00\x00\x00\x00", b"IDAT": zlib.compress(bytes(10_000)), b"IEND": b""}
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")
        for name, body in chunks.items()
    )
    with pytest.raises(HardlookError, match="too large when decoded.*loader"):
        images.open_picture(data)


def test_npy_files_are_arrays_and_objects_in_them_are_refused():
    buffer = io.BytesIO()
    np.save(buffer, np.eye(3))
    assert np.array_equal(images.decode(buffer.getvalue()), np.eye(3))
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(HardlookError, match="cannot be read"):
        images.decode(buffer.getvalue())


def test_decoding_changes_neither_mode_nor_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = images.decode(encoded(gradient("L"), "JPEG", exif=exif))
    assert (image.mode, image.size) == ("L", (40, 20))


@pytest.mark.parametrize(
    ("image", "format", "kind"),
    [
        (gradient(), "PNG", "image/png"),
        (gradient(), "JPEG", "image/jpeg"),
        (gradient("P"), "GIF", "image/gif"),
        (gradient(), "WEBP", "image/webp"),
    ],
)
def test_what_browsers_show_passes_untouched(image, format, kind):
    data = encoded(image, format)
    assert images.browser_picture(data) == (data, kind)


@pytest.mark.parametrize(
    ("image", "format"),
    [
        (gradient("CMYK"), "JPEG"),
        (gradient(), "TIFF"),
        (gradient(), "BMP"),
        (Image.new("I;16", (4, 4)), "PNG"),
        (Image.new("F", (4, 4)), "TIFF"),
    ],
)
def test_what_browsers_cannot_show_becomes_png(image, format):
    data, kind = images.browser_picture(encoded(image, format))
    assert kind == "image/png"
    assert opened(data).format == "PNG"
    assert opened(data).mode in ("L", "RGB", "RGBA")


def test_sixteen_bit_greyscale_is_kept_to_the_bit():
    values = np.random.default_rng(0).integers(0, 65536, (9, 5), dtype=np.uint16)
    for original in (values, values[None], Image.fromarray(values)):
        assert np.array_equal(np.asarray(opened(images.lossless(original))), values)


def test_a_fingerprint_follows_values_shape_and_type_and_nothing_else():
    values = np.arange(6, dtype=np.int32)
    different = [values, values.reshape(2, 3), values.astype(np.int64), values + 1, "a", b"a"[:0], "b"]
    assert len({images.fingerprint(value) for value in different}) == len(different)
    same = [values, values.astype(">i4"), np.concatenate([values, values])[:6], np.arange(12, dtype=np.int32)[::2] // 2]
    assert len({images.fingerprint(value) for value in same}) == 1


def test_an_image_and_its_array_have_one_fingerprint():
    image = gradient("RGB")
    assert images.fingerprint(image) == images.fingerprint(np.asarray(image))


def test_palette_images_with_other_colours_differ():
    first, second = Image.new("P", (2, 2)), Image.new("P", (2, 2))
    first.putpalette([255, 0, 0])
    second.putpalette([0, 255, 0])
    assert images.fingerprint(first) != images.fingerprint(second)


@pytest.mark.parametrize("values", [[1.0, -2.0, 3.0], [0.0], [], np.arange(1000), [np.nan, np.inf, 1.0]])
def test_vectors_of_any_length_become_bars(values):
    assert images.vector_picture(np.array(values)).size == (256, 128)


def test_bars_point_up_for_positive_and_down_for_negative_numbers():
    pixels = np.asarray(images.vector_picture(np.array([1.0, -1.0])))
    dark = pixels < 100
    assert dark[:60, :120].any() and not dark[70:, :120].any()
    assert dark[70:, 136:].any() and not dark[:60, 136:].any()


def structural_similarity(one, other):
    """Mean SSIM (Wang et al. 2004, eq. 13) of two grey pictures, in windows of 7 × 7."""
    from scipy.ndimage import uniform_filter

    x, y = (np.asarray(image.convert("L"), dtype=np.float64) for image in (one, other))
    a, b = uniform_filter(x, 7), uniform_filter(y, 7)
    xx, yy, xy = uniform_filter(x * x, 7) - a * a, uniform_filter(y * y, 7) - b * b, uniform_filter(x * y, 7) - a * b
    c, d = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(((2 * a * b + c) * (2 * xy + d) / ((a * a + b * b + c) * (xx + yy + d))).mean())


@pytest.mark.parametrize("size", [(500, 375), (1600, 1200), (3000, 1700)])
def test_a_thumbnail_of_the_whole_decoding_looks_like_one_of_the_reduced_decoding(size):
    draw = np.random.default_rng(0)
    coarse = Image.fromarray(draw.integers(0, 255, (size[1] // 20, size[0] // 20, 3)).astype(np.uint8))
    noisy = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)) + draw.normal(0, 10, (size[1], size[0], 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(buffer, format="JPEG", quality=90)
    reduced, whole = images.thumbnail(buffer.getvalue()), images.thumbnail(images.decode(buffer.getvalue()))
    assert Image.open(io.BytesIO(whole)).size == Image.open(io.BytesIO(reduced)).size
    assert structural_similarity(Image.open(io.BytesIO(whole)), Image.open(io.BytesIO(reduced))) >= 0.98
    if max(size) <= 512:
        assert whole == reduced
