"""What hardlook exports for another tool, its own adapter for that tool reads back: same examples, corrected labels."""

import json

import numpy as np
import pytest
from PIL import Image

from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.data.ingest import ingest
from scoring.reviews import Event, ReviewLog

from ..conftest import hardlook

CLASSES = ["cat", "../x", "CON", "Cat", "Großer Panda"]
"""Of which some can be no folder's name on some system."""


@pytest.fixture
def audit(tmp_path):
    """Ten pictures in a manifest; two relabelled, one excluded."""
    root = tmp_path / "audit"
    root.mkdir()
    lines = ["path,label,example_id,age"]
    for at in range(10):
        noise = np.random.default_rng(at).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / f"{at}.png")
        lines.append(f"{at}.png,{CLASSES[at % 5]},id/{at},{at}")
    (root / "train.csv").write_text("\n".join(lines) + "\n", encoding="utf8")
    toml = f"format = 1\nclasses = {json.dumps(CLASSES, ensure_ascii=False)}\n"
    (root / "audit.toml").write_text(f'{toml}[[data]]\npath = "train.csv"\nsplit = "train"\n', encoding="utf8")
    made = Audit.open(root)
    ingest(made)
    rows = read_table(made.examples_path).to_pandas()
    with ReviewLog.open(made.log_url, audit=made.log_name(made.log_url)) as log:
        log.append(
            Event(
                client="tab",
                seq=at + 1,
                example_id=row.example_id,
                fingerprint=row.fingerprint,
                label=row.label,
                reviewer="ana",
                action="decide",
                verdict=("other", "other", "none")[at],
                new_label=("CON", "Cat", None)[at],
            )
            for at, row in enumerate(rows.head(3).itertuples())
        )
    return made


def corrected(audit):
    """Picture → its corrected label, worked out by hand: the first two are relabelled, the third is left out."""
    rows = read_table(audit.examples_path).to_pandas()
    labels = ["CON", "Cat", None, *rows["label"][3:]]
    return {content: label for content, label in zip(rows["fingerprint"], labels, strict=True) if label is not None}


def read_back(tmp_path, path, more=""):
    """An audit of what lies at a path, by the path alone."""
    root = tmp_path / "again"
    root.mkdir()
    toml = f"format = 1\nclasses = {json.dumps(CLASSES, ensure_ascii=False)}\n"
    (root / "audit.toml").write_text(f'{toml}[[data]]\npath = "{path}"\nsplit = "train"\n{more}', encoding="utf8")
    again = Audit.open(root)
    ingest(again)
    return read_table(again.examples_path).to_pandas()


@pytest.mark.parametrize(
    "form, made, more",
    [("imagefolder", "train", ""), ("imagefolder", "train", "--copy"), ("fiftyone", "fiftyone-train", "")],
)
def test_a_dataset_of_pictures_reads_back(audit, tmp_path, form, made, more):
    assert hardlook("export", str(audit.root), "--format", form, "--out", str(tmp_path / "out"), *more.split()) == 0
    rows = read_back(tmp_path, tmp_path / "out" / made)
    assert dict(zip(rows["fingerprint"], rows["label"], strict=True)) == corrected(audit) and len(rows) == 9
    assert rows["problem"].isna().all()
    if form == "fiftyone":
        assert {*rows["example_id"]} == {f"id/{at}" for at in range(10)} - {"id/2"}, "each key is its example's id"


def test_a_hugging_face_dataset_reads_back(audit, tmp_path):
    assert hardlook("export", str(audit.root), "--format", "huggingface", "--out", str(tmp_path / "out")) == 0
    rows = read_back(tmp_path, tmp_path / "out/train")
    assert dict(zip(rows["fingerprint"], rows["label"], strict=True)) == corrected(audit)
    assert dict(zip(rows["example_id"], rows["meta.age"], strict=True)) == {
        f"id/{at}": at for at in range(10) if at != 2
    }
    assert rows["meta.label_original"].tolist()[:2] == ["cat", "../x"]


def test_fiftyones_labels_before_the_review_stay_readable(audit, tmp_path):
    hardlook("export", str(audit.root), "--format", "fiftyone", "--out", str(tmp_path / "out"))
    folder = tmp_path / "out/fiftyone-train"
    original = json.loads((folder / "labels_original.json").read_text())
    given = read_table(audit.examples_path).to_pandas().set_index("example_id")["label"]
    assert {key: original["classes"][at] for key, at in original["labels"].items()} == given.drop("id/2").to_dict()


def test_a_table_of_the_users_own_renames_no_class(tmp_path):
    for name in ("n01", "n02"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16), (len(name), int(name[1:]), 0)).save(tmp_path / "data" / name / "a.png")
    (tmp_path / "data/classes.json").write_text('{"n01": "tench", "n02": "goldfish"}')
    for classes, labels in ((["n01", "n02"], ["n01", "n02"]), (["tench", "goldfish"], ["tench", "goldfish"])):
        toml = f'format = 1\nclasses = {json.dumps(classes)}\n[[data]]\npath = "data"\nsplit = "train"\n'
        (tmp_path / "audit.toml").write_text(toml)
        ingest(Audit.open(tmp_path))
        assert read_table(tmp_path / "examples.parquet").to_pandas()["label"].tolist() == labels
