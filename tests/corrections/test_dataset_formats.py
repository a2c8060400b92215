"""Corrected labels round-trip through the libraries that read them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table
from scoring.corrections.dataset_formats import corrected_examples, export_as
from scoring.reviews import Event, ReviewLog

from ..conftest import hardlook


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


def test_a_class_that_leads_outside_is_refused(decided, tmp_path):
    from scoring.corrections.dataset_formats import image_folder

    audit, log, *_ = decided
    rows = corrected_examples(audit, log).head(2).assign(label="../../up")
    with pytest.raises(HardlookError, match="cannot be a folder name"):
        image_folder(audit, rows, tmp_path / "x")
