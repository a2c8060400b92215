"""Pictures that an EXIF orientation turns: read as their own library reads them, checked the other way, shown
upright."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from scoring.audit import Audit
from scoring.audit.storage import read_json, read_metadata
from scoring.data.examples import Originals, read_examples
from scoring.data.exif_orientation import turned
from scoring.data.ingest import ingest
from scoring.pipeline.check import check_run
from scoring.pipeline.shards import Context
from scoring.pipeline.vog_maps import picture_map, turn

MODEL = """
import numpy as np
import torch
from torch import nn

class Brighter(nn.Module):
    '''Class 0 where the left half is the brighter, else class 1.'''
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
    def forward(self, x):
        half = x.mean((1, 2))
        left, right = half[:, :4].mean(1), half[:, 4:].mean(1)
        return torch.stack([left, right], 1) * self.scale

def net(): return Brighter()
def transform(image): return torch.from_numpy(np.asarray(image.convert("RGB"), dtype="float32") / 255).permute(2, 0, 1)
"""


def encoded(image, orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


def half_bright(label, rng):
    """(8, 8) RGB, one half brighter, as people see it."""
    picture = rng.integers(0, 40, (8, 8, 3)).astype(np.uint8)
    picture[:, slice(0, 4) if label == 0 else slice(4, 8)] += 180
    return Image.fromarray(picture)


def written(folder, turned_share, trained_upright, expected=""):
    """80 images in class folders, some stored upside down with orientation 3; upright or stored is what tells the
    class."""
    rng = np.random.default_rng(0)
    for number in range(80):
        label = number % 2
        place = folder / "test" / "ab"[label] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        turns = rng.random() < turned_share
        seen = half_bright(label, rng)
        stored = seen.rotate(180) if turns and trained_upright else seen
        place.write_bytes(encoded(stored, 3 if turns else 1))
    (folder / "model.py").write_text(MODEL)
    torch.save({"scale": torch.ones(1)}, folder / "a.pt")
    (folder / "audit.toml").write_text(
        'format = 1\nclasses = ["a", "b"]\n[[data]]\nsplit = "test"\npath = "test"\n[run.main]\n'
        'model = "model.py:net"\ntransform = "model.py:transform"\ncheckpoints = "*.pt"\n' + expected
    )
    return folder


def findings(folder):
    audit = Audit.open(folder)
    ingest(audit)
    return check_run(Context(audit, audit.run(), device="cpu"))


@pytest.mark.parametrize("expected", ["", "expected_accuracy = 0.85\n", "expected_accuracy = 1.0\n"])
def test_a_significant_gain_of_the_other_orientation_is_an_error_even_where_the_accuracy_is_ok(tmp_path, expected):
    found = findings(written(tmp_path, 0.2, trained_upright=True, expected=expected))
    level = (
        "warning" if "0.85" in expected else "error"
    )  # the accuracy is as expected: nets may know upright pictures better
    told = [finding.text for finding in found if finding.level == level]
    assert len(told) == 1 and "EXIF orientation" in told[0] and "exif = true in data[0]" in told[0]
    assert "100.0% with this corrected" in told[0] or "would be 100.0% with this change" in told[0]
    (tmp_path / "audit.toml").write_text(
        (tmp_path / "audit.toml").read_text().replace('path = "test"', 'path = "test"\nexif = true')
    )
    again = findings(tmp_path)
    assert not [finding for finding in again if finding.level == "error"]
    assert any("accuracy 100.0%" in finding.text for finding in again)


def test_where_the_other_orientation_gains_nothing_it_is_a_warning_with_the_number_of_pictures(tmp_path):
    found = findings(written(tmp_path, 0.2, trained_upright=False))
    (warning,) = [finding.text for finding in found if finding.level == "warning"]
    assert "16 of 80 images have an EXIF orientation and are read without it" in warning
    assert not [finding for finding in found if finding.level == "error"]


def test_pictures_that_are_not_turned_raise_no_question(tmp_path):
    assert {finding.level for finding in findings(written(tmp_path, 0.0, trained_upright=True))} == {"ok"}


def test_each_source_is_read_as_its_own_library_reads_it(tmp_path):
    datasets, torchvision = pytest.importorskip("datasets"), pytest.importorskip("torchvision")
    rng = np.random.default_rng(1)
    data = encoded(Image.fromarray(rng.integers(0, 255, (4, 6, 3)).astype(np.uint8)), 6)
    (tmp_path / "images/a").mkdir(parents=True)
    (tmp_path / "images/a/x.png").write_bytes(data)
    features = datasets.Features({"image": datasets.Image(mode="L"), "label": datasets.ClassLabel(names=["a"])})
    saved = datasets.Dataset.from_dict({"image": [{"bytes": data, "path": None}], "label": [0]}, features=features)
    saved.save_to_disk(tmp_path / "saved")
    saved.to_parquet(str(tmp_path / "data.parquet"))
    tables = "".join(
        f'[[data]]\npath = "{path}"\nsplit = "train"\n{more}'
        for path, more in (
            ("images", 'mode = "RGB"\n'),
            ("saved", ""),
            ("data.parquet", ""),
            ("saved", "exif = false\n"),
            ("images", "exif = true\n"),
        )
    )
    (tmp_path / "audit.toml").write_text(f'format = 1\nclasses = ["a"]\n{tables}')
    audit = Audit.open(tmp_path)
    found = ingest(audit)
    folder = np.asarray(torchvision.datasets.ImageFolder(tmp_path / "images")[0][0])
    hub = np.asarray(saved[0]["image"])
    stored = Image.open(io.BytesIO(data))
    wanted = [folder, hub, hub, np.asarray(stored.convert("L")), np.asarray(ImageOps.exif_transpose(stored))]
    originals = Originals(audit)
    for source, pixels in enumerate(wanted):
        np.testing.assert_array_equal(np.asarray(originals.read(source, 0)), pixels)
    assert folder.shape == (4, 6, 3) and hub.shape == (6, 4)
    assert len(found.reading) == 4 and found.reading == read_json(audit.ingest_path)["reading"]
    assert found.reading[1].startswith("data[1], data[2]: EXIF orientation is applied to images, as in Hugging Face")
    assert read_metadata(audit.examples_path)["turned"] == [1, 2, 4]


def test_a_changed_orientation_changes_the_key_of_every_score(tmp_path):
    written(tmp_path, 0.2, trained_upright=True)
    keys = []
    for line in ("", "\nexif = false", "\nexif = true", '\nmode = "L"'):
        text = (tmp_path / "audit.toml").read_text().split("path = ")[0]
        (tmp_path / "audit.toml").write_text(
            text + f'path = "test"{line}\n[run.main]\nmodel = "model.py:net"\n'
            'transform = "model.py:transform"\ncheckpoints = "*.pt"\n'
        )
        audit = Audit.open(tmp_path)
        ingest(audit)
        keys.append(Context(audit, audit.run(), device="cpu").key)
    assert len({keys[0], keys[2], keys[3]}) == 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_map_is_turned_as_pillow_turns_the_picture(orientation):
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    picture = Image.open(io.BytesIO(encoded(Image.fromarray(values), orientation)))
    np.testing.assert_array_equal(turned(values, orientation), np.asarray(ImageOps.exif_transpose(picture)))
    assert turn(np.asarray, picture) == orientation
    assert turn(lambda image: np.asarray(ImageOps.exif_transpose(image)), picture) == 1


def test_a_kept_map_lies_over_the_upright_picture(tmp_path):
    written(tmp_path, 0.5, trained_upright=True)
    audit = Audit.open(tmp_path)
    ingest(audit)
    context = Context(audit, audit.run(), device="cpu")
    stored = np.zeros((8, 8))
    stored[0, :2] = [1.0, 0.5]
    for number in range(8):
        header = Image.open(io.BytesIO((tmp_path / context.examples["reference"][number]).read_bytes()))
        shown = np.asarray(Image.open(io.BytesIO(picture_map(context, number, stored))))
        place = (7, 7, 6) if header.getexif().get(0x0112) == 3 else (0, 0, 1)
        assert (shown[place[0], place[1]], shown[place[0], place[2]]) == (255, 128) and (shown > 0).sum() == 2


def test_the_picture_of_examples_is_shown_upright(tmp_path):
    written(tmp_path, 0.5, trained_upright=True)
    audit = Audit.open(tmp_path)
    ingest(audit)
    for own, label in read_examples(audit)[["example_id", "label"]].itertuples(index=False):
        shown = np.asarray(Image.open(io.BytesIO(audit.thumbnails.get(own))).convert("L"), dtype=float)
        assert (shown[:, :4].mean() > shown[:, 4:].mean()) == (label == "a")


def test_sixteen_bit_grey_that_training_clipped_is_found_before_what_imitates_it(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    rng = np.random.default_rng(2)
    for number in range(60):
        values = rng.integers(*((0, 100), (300, 400))[number % 2], (8, 8)).astype(np.uint16)
        place = tmp_path / "test" / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(place)
    clipped = np.asarray(torchvision.datasets.ImageFolder(tmp_path / "test")[-1][0])
    assert (clipped == 255).all(), "what ImageFolder gives for mode I;16"
    (tmp_path / "model.py").write_text(
        MODEL.replace(
            "left, right = half[:, :4].mean(1), half[:, 4:].mean(1)", "right = half.mean(1) - 0.5; left = -right"
        )
    )
    torch.save({"scale": torch.ones(1)}, tmp_path / "a.pt")
    (tmp_path / "audit.toml").write_text(
        'format = 1\nclasses = ["a", "b"]\n[[data]]\nsplit = "test"\npath = "test"\n[run.main]\nmodel = '
        '"model.py:net"\n'
        'transform = { mode = "RGB" }\ncheckpoints = "*.pt"\nexpected_accuracy = 1.0\n'
    )
    (error,) = [finding.text for finding in findings(tmp_path) if finding.level == "error"]
    assert (
        "16-bit grey images were clipped at 255 in training" in error
        and 'mode = "RGB" in data[0] (test) of audit.toml (100.0% with this corrected)' in error
    )
    (tmp_path / "audit.toml").write_text(
        (tmp_path / "audit.toml").read_text().replace('path = "test"', 'path = "test"\nmode = "RGB"')
    )
    assert {finding.level for finding in findings(tmp_path)} == {"ok"}


def test_sources_that_are_read_differently_are_refused_where_pictures_are_turned(tmp_path):
    """Following the check for one source alone would leave the other as it was."""
    folder = written(tmp_path, 0.2, trained_upright=True, expected="")
    text = (folder / "audit.toml").read_text()
    table = text[text.index("[[data]]") : text.index("[run.")]
    both = text.replace(
        table,
        table.replace('split = "test"', 'split = "train"')
        + table.replace('path = "test"', 'path = "test"\nexif = true'),
    )
    (folder / "audit.toml").write_text(both)
    errors = [finding.text for finding in findings(folder) if finding.level == "error"]
    assert (
        len(errors) == 1
        and "handle EXIF orientation differently: data[0] without" in errors[0]
        and "data[1] with" in errors[0]
    )
    (folder / "audit.toml").write_text(both.replace('split = "train"', 'split = "train"\nexif = false'))
    assert not any("read differently" in finding.text for finding in findings(folder))
