"""Corrected labels round-trip through the libraries that read them."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table, write_table
from scoring.corrections.dataset_formats import FORMATS, corrected_examples, export_as
from scoring.corrections.label_patch import export_patches, read_patch
from scoring.data.examples import read_examples
from scoring.reviews import Event, ReviewLog

from ..conftest import hardlook
from ..synthetic import make_audit


@pytest.fixture
def decided(sample_copy):
    """(audit, log, {example_id: new label}, the excluded id): three relabelled, one excluded, of train."""
    audit = Audit.open(sample_copy)
    rows = read_table(audit.examples_path).to_pandas().query("split == 'train'").head(4)
    new = {row.example_id: str((int(row.label) + 1) % 10) for row in rows.head(3).itertuples()}
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        log.append(
            [
                Event(
                    client="c",
                    seq=at + 1,
                    example_id=row.example_id,
                    fingerprint=row.fingerprint,
                    label=row.label,
                    reviewer="r",
                    action="decide",
                    verdict="other" if row.example_id in new else "none",
                    new_label=new.get(row.example_id),
                )
                for at, row in enumerate(rows.itertuples())
            ]
        )
        yield audit, log, new, rows["example_id"].iloc[3]


def test_the_corrected_examples_keep_what_they_were(decided):
    audit, log, new, gone = decided
    rows = corrected_examples(audit, log).set_index("example_id")
    assert rows.loc[list(new), "label"].tolist() == list(new.values())
    assert (rows.loc[list(new), "label_original"] != rows.loc[list(new), "label"]).all()
    assert rows.loc[gone, "disposition"] == "exclude"
    rest = rows[rows["disposition"] == "undecided"]
    assert (rest["label"] == rest["label_original"]).all()


@pytest.mark.parametrize("copy", [False, True])
def test_an_image_folder_is_read_by_torchvision(decided, tmp_path, copy):
    from torchvision.datasets import ImageFolder

    audit, log, _, gone = decided
    export_as("imagefolder", audit, None, log, tmp_path / "out", copy=copy)
    read = ImageFolder(tmp_path / "out" / "train")
    found = {path.rsplit("/", 1)[1].removesuffix(".png"): read.classes[label] for path, label in read.samples}
    rows = corrected_examples(audit, log).query("split == 'train' and disposition != 'exclude'")
    assert found == dict(zip(rows["example_id"], rows["label"], strict=True)) and gone not in found
    assert next((tmp_path / "out" / "train").rglob("*.png")).is_symlink() != copy
    with pytest.raises(HardlookError, match="already exists"):
        export_as("imagefolder", audit, None, log, tmp_path / "out")


def test_a_hugging_face_dataset_has_both_labels(decided, tmp_path):
    datasets = pytest.importorskip("datasets")
    audit, log, _, gone = decided
    export_as("huggingface", audit, None, log, tmp_path / "out")
    read = datasets.load_from_disk(str(tmp_path / "out" / "train"))
    names = read.features["label"].int2str
    rows = corrected_examples(audit, log).set_index("example_id")
    assert gone not in read["example_id"] and len(read) == (rows["split"] == "train").sum() - 1
    for row in read.select(range(5)):
        assert names(row["label"]) == rows.loc[row["example_id"], "label"]
        assert names(row["label_original"]) == rows.loc[row["example_id"], "label_original"]
    from PIL import Image

    first = read[0]
    with Image.open(audit.path(rows.loc[first["example_id"], "reference"])) as original:
        np.testing.assert_array_equal(np.asarray(first["image"]), np.asarray(original))


def test_a_cleanlab_table_is_taken_by_clean_learning(decided, tmp_path):
    classification = pytest.importorskip("cleanlab.classification")
    from sklearn.naive_bayes import GaussianNB

    audit, log, new, gone = decided
    (path, *_) = export_as("cleanlab", audit, audit.run(), log, tmp_path)
    table = pd.read_csv(path, dtype={"example_id": str})
    assert set(table.loc[table["is_label_issue"], "example_id"]) == {*new, gone}
    assert table["label_quality"].between(0, 1).all()
    renamed = table.set_index("example_id").loc[list(new), "predicted_label"]
    assert renamed.astype(str).tolist() == list(new.values())
    inputs = np.random.default_rng(0).random((len(table), 3)) + table[["given_label"]].to_numpy()
    learner = classification.CleanLearning(GaussianNB())
    learner.fit(inputs, table["given_label"].to_numpy(), label_issues=table)
    kept = learner.get_label_issues()
    np.testing.assert_array_equal(kept["is_label_issue"], table["is_label_issue"])


def test_fiftyones_documented_format_holds_both_labels(decided, tmp_path):
    audit, log, new, gone = decided
    (path, *_) = export_as("fiftyone", audit, None, log, tmp_path)
    after, before, places = (
        json.loads((path / name).read_text()) for name in ("labels.json", "labels_original.json", "data.json")
    )
    assert after["classes"] == audit.classes and set(after["labels"]) == set(places) and gone not in places
    assert all(Path(place).read_bytes()[:4] == b"\x89PNG" for place in list(places.values())[:20])
    for example, label in new.items():
        assert after["classes"][after["labels"][example]] == label != before["classes"][before["labels"][example]]


def test_fiftyones_own_importer_reads_it(decided, tmp_path):
    """Its importer needs no database, which FiftyOne's datasets do; `pip install fiftyone` makes this test run."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importers = pytest.importorskip("fiftyone.utils.data.importers", exc_type=ImportError)
    audit, log, new, gone = decided
    (path, *_) = export_as("fiftyone", audit, None, log, tmp_path)
    read = importers.FiftyOneImageClassificationDatasetImporter(
        dataset_dir=None, labels_path=str(path / "labels.json"), data_path=str(path / "data.json")
    )
    with read:
        assert read.get_dataset_info()["classes"] == audit.classes
        told = {Path(place).name: label.label for place, _, label in read}
    places = json.loads((path / "data.json").read_text())
    assert len(told) == len(places) and gone not in places
    assert all(told[Path(places[example]).name] == label for example, label in new.items())


def test_a_blind_tests_issues_tell_neither_rank_nor_suggestion(decided, tmp_path):
    audit, log, _, _ = decided
    (audit.root / "audit.toml").write_text((audit.root / "audit.toml").read_text() + '\n[policy]\ntest = "blind"\n')
    audit = Audit.open(audit.root)
    for path in export_as("cleanlab", audit, audit.run(), log, tmp_path / "blind"):
        table = pd.read_csv(path, dtype={"example_id": str})
        assert table["label_quality"].isna().all() == ("test" in path.name), path.name


def test_the_command_writes_each_format(decided, tmp_path, capsys):
    audit, *_ = decided
    for fmt in ("imagefolder", "cleanlab", "fiftyone"):
        assert hardlook("export", audit.root, "--format", fmt, "--out", tmp_path / fmt) == 0
        assert str(tmp_path / fmt) in capsys.readouterr().out
    assert hardlook("export", audit.root, "--format", "imagefolder", "--out", tmp_path / "imagefolder") == 1


def test_an_export_that_ends_at_its_second_split_leaves_nothing_and_the_next_one_works(decided, tmp_path, monkeypatch):
    from scoring.corrections import dataset_formats

    audit, log, *_ = decided

    def second_fails(audit, rows, path, *, copy=False, made=dataset_formats.image_folder):
        if (path.parent / "train").exists():
            raise KeyboardInterrupt
        return made(audit, rows, path, copy=copy)

    with monkeypatch.context() as patch:
        patch.setattr(dataset_formats, "image_folder", second_fails)
        with pytest.raises(KeyboardInterrupt):
            export_as("imagefolder", audit, None, log, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert [path.name for path in export_as("imagefolder", audit, None, log, tmp_path / "out")] == ["train", "test"]


HOSTILE = (
    "../..",
    "/abs",
    "..",
    ".",
    "a/b",
    "a_b",
    "CON",
    "con.png",
    "Cat",
    "cat",
    "cafe\u0301",
    "caf\xe9",
    "x" * 300,
    "x" * 299 + "y",
    "trailing. ",
    "trailing",
    "what?*|",
    "\u202egnp.exe",
    "classes.json",
    "data",
    "-rf",
    "~",
    "C:\\temp",
    "=1+1",
)


@pytest.fixture
def hostile(tmp_path):
    """(audit, log, {example_id: class}) of arrays whose class names and ids are made to leave the folder or collide."""
    audit = make_audit(tmp_path / "in" / "audit", len(HOSTILE) * 3, HOSTILE, runs=(), problems=0)
    ids = [f"{name}{at}" if at else name for name in HOSTILE for at in ("", "/../../up", ".png")]
    table = read_table(audit.examples_path).to_pandas().assign(example_id=ids, split="train", reference=None)
    table["label"] = [name for name in HOSTILE for _ in range(3)]
    table["problem"] = None
    write_table(audit.examples_path, pa.Table.from_pandas(table, preserve_index=False))
    pictures = {}
    for at, one in enumerate(ids):
        buffer = io.BytesIO()
        Image.fromarray(np.full((2, 2), at, np.uint8)).save(buffer, "PNG")
        pictures[one] = buffer.getvalue()
    audit.originals.write_part(pictures.items())
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        yield audit, log, dict(zip(ids, table["label"], strict=True)), pictures


def everything(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() or path.is_symlink()}


@pytest.mark.parametrize("fmt", ["csv", "parquet", *FORMATS])
def test_no_export_leaves_its_folder_or_loses_an_example_whatever_classes_and_ids_are_called(hostile, tmp_path, fmt):
    audit, log, labels, pictures = hostile
    before, out = everything(tmp_path), tmp_path / "out" / "deep" / "export"
    log.append(
        [
            Event(client="c", seq=at, example_id=one, label=label, reviewer="r", action="decide", verdict="given")
            for at, (one, label) in enumerate(labels.items(), 1)
        ]
    )
    before |= everything(tmp_path)
    if fmt in ("csv", "parquet"):
        (path,) = export_patches(read_examples(audit), log, out, fmt=fmt)
        assert dict(read_patch(path)[["example_id", "old_label"]].itertuples(index=False)) == labels
    else:
        (path,) = export_as(fmt, audit, None, log, out)
    made = everything(tmp_path) - before
    assert made and all(name.startswith("out/deep/export/") for name in made), made
    names = [Path(name) for name in made]
    assert len({str(name).casefold() for name in names}) == len(names)
    assert max(len(part.encode()) for name in names for part in name.parts) <= 255
    if fmt == "imagefolder":
        told = json.loads((path / "classes.json").read_text())
        found = {file.read_bytes(): told[file.parent.name] for file in path.rglob("*") if file.parent != path}
        assert {one: found[data] for one, data in pictures.items()} == labels
        assert all(
            file.parent.parent == path for file in path.rglob("*") if file.is_file() and file.name != "classes.json"
        )
    if fmt == "fiftyone":
        places, said = (json.loads((path / name).read_text()) for name in ("data.json", "labels.json"))
        assert {one: Path(place).read_bytes() for one, place in places.items()} == pictures
        assert {one: said["classes"][at] for one, at in said["labels"].items()} == labels
    if fmt == "huggingface":
        read = pytest.importorskip("datasets").load_from_disk(str(path))
        assert dict(zip(read["example_id"], map(read.features["label"].int2str, read["label"]), strict=True)) == labels


def test_a_second_export_takes_the_place_of_the_first_and_of_nothing_else(hostile, tmp_path, monkeypatch):
    from scoring.corrections import dataset_formats

    audit, log, *_ = hostile
    (path,) = export_as("fiftyone", audit, None, log, tmp_path / "out")
    first = everything(path)
    with monkeypatch.context() as patch:
        patch.setattr(dataset_formats, "write_json", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export_as("fiftyone", audit, None, log, tmp_path / "out")
    assert everything(path) == first and [one.name for one in path.parent.iterdir()] == ["fiftyone-train"]
    export_as("fiftyone", audit, None, log, tmp_path / "out")
    assert everything(path) == first and [one.name for one in path.parent.iterdir()] == ["fiftyone-train"]
    (path / "mine.txt").write_text("kept")
    with pytest.raises(HardlookError, match=r"holds 'mine.txt', which is of no export"):
        export_as("fiftyone", audit, None, log, tmp_path / "out")
    assert everything(path) == first | {"mine.txt"}


def test_plain_names_stay_as_they_are_and_a_folder_of_plain_classes_has_no_table(decided, tmp_path):
    audit, log, *_ = decided
    export_as("imagefolder", audit, None, log, tmp_path / "out")
    train = tmp_path / "out" / "train"
    assert {one.name for one in train.iterdir()} == set(audit.classes)
