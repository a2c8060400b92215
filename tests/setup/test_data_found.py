"""Data as it lies on disks: folders, splits below one path, tables and arrays with their columns."""

import os
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_iris

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.data.adapters import open_sources
from scoring.data.ingest import ingest
from scoring.setup.data_found import find_data
from tests.conftest import hardlook
from tests.data.adapters.tools import FILES

from .conftest import write_images
from .test_found_audit import settings


def tables(found):
    """The ``[[data]]`` tables without what is asked."""
    return [{line.key: line.value for line in table if not line.asked} for table in found.tables]


def find(work, **paths):
    folder = work / "my-audit"
    folder.mkdir(exist_ok=True)
    return find_data({split: paths.get(split) for split in ("train", "test", "pool")}, folder)


@pytest.mark.parametrize(
    "names, splits",
    [
        (("train", "val"), ["train", "test"]),
        (("train", "valid", "test"), ["train", "test", "test"]),
        (("training", "validation", "unlabeled"), ["train", "test", "pool"]),
        (("Train", "Test"), ["train", "test"]),
    ],
)
def test_folders_below_one_path_that_are_named_like_splits_are_its_splits(tmp_path, names, splits):
    write_images(tmp_path / "data", dict.fromkeys(names, 2))
    found = find(tmp_path, train=tmp_path / "data")
    assert [table["split"] for table in tables(found)] == splits
    assert found.classes == ("cat", "dog", "eel")
    (tmp_path / "my-audit" / "audit.toml").write_text("format = 1")
    audit = Audit(tmp_path / "my-audit", {"format": 1, "classes": list(found.classes), "data": tables(found)})
    assert sum(facts["examples"] for facts in ingest(audit).splits.values()) == 6 * len(names)


def test_classes_that_are_called_like_splits_are_classes(tmp_path):
    write_images(tmp_path / "train", {"train": 2, "test": 2, "bus": 2}, ("a",))
    found = find(tmp_path, train=tmp_path / "train")
    assert found.classes == ("bus", "test", "train") and [table["split"] for table in tables(found)] == ["train"]


def test_two_paths_are_taken_at_their_word(tmp_path):
    write_images(tmp_path / "a", {"x": 2})
    write_images(tmp_path / "b", {"y": 2})
    found = find(tmp_path, train=tmp_path / "a" / "x", test=tmp_path / "b" / "y")
    assert [(table["split"], table["path"]) for table in tables(found)] == [("train", "../a/x"), ("test", "../b/y")]


def test_a_path_of_another_project_is_written_whole(tmp_path):
    write_images(tmp_path / "elsewhere" / "data", {"x": 2})
    (tmp_path / "home" / "work").mkdir(parents=True)
    found = find(tmp_path / "home" / "work", train=tmp_path / "elsewhere" / "data" / "x")
    assert tables(found)[0]["path"] == str(tmp_path / "elsewhere" / "data" / "x")


def test_rows_of_numbers_need_no_columns_named_but_the_label(tmp_path):
    iris = load_iris(as_frame=True)
    frame = iris.data.assign(id=[f"f{n}" for n in range(150)], species=iris.target_names[iris.target])
    frame["subset"] = ["validation" if n % 5 == 0 else "train" for n in range(150)]
    frame.to_csv(tmp_path / "iris.csv", index=False)
    found = find(tmp_path, train=tmp_path / "iris.csv")
    assert found.media == "vector" and found.classes == ("setosa", "versicolor", "virginica")
    assert tables(found) == [
        {
            "path": "../iris.csv",
            "split_column": "subset",
            "split_map": {"validation": "test"},
            "id_column": "id",
            "label_column": "species",
        }
    ]
    config = {"format": 1, "media": "vector", "classes": list(found.classes), "data": tables(found)}
    read = ingest(Audit(tmp_path / "my-audit", config))
    assert {split: facts["examples"] for split, facts in read.splits.items()} == {"train": 120, "test": 30}


def test_a_column_whose_numbers_are_all_different_but_is_no_id_is_an_input(tmp_path):
    frame = pd.DataFrame({"a": np.arange(20) / 7, "b": np.arange(20) * 2.5, "target": ["x", "y"] * 10})
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = find(tmp_path, train=tmp_path / "t.csv")
    assert found.media == "vector" and tables(found)[0].keys() == {"split", "path", "label_column"}


def test_several_columns_that_could_be_the_label_are_refused_with_their_values(tmp_path):
    frame = pd.DataFrame(
        {"text": ["a longer text about cats"] * 20, "label": ["x", "y"] * 10, "category": ["p", "q"] * 10}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(HardlookError, match=r"2 columns could be the label: label \(x, y\), category \(p, q\)"):
        find(tmp_path, train=tmp_path / "t.csv")


def test_the_one_column_with_few_values_is_the_label_and_two_of_them_are_refused(tmp_path):
    frame = pd.DataFrame(
        {"text": [f"a longer text about cats, number {n}" for n in range(20)], "mood": ["x", "y"] * 10}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = find(tmp_path, train=tmp_path / "t.csv")
    assert found.media == "text" and tables(found)[0]["label_column"] == "mood"
    frame.assign(tone=["p", "q"] * 10).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(HardlookError, match="2 columns could be the label: mood"):
        find(tmp_path, train=tmp_path / "t.csv")
    with pytest.raises(HardlookError, match="is known as the label"):
        frame[["text"]].to_csv(tmp_path / "u.csv", index=False)
        find(tmp_path, train=tmp_path / "u.csv")


def test_a_table_of_paths_is_one_of_images(tmp_path):
    write_images(tmp_path / "images", {"train": 2})
    rows = [(f"images/train/{name}/{n}.png", name) for name in ("cat", "dog", "eel") for n in range(2)]
    pd.DataFrame(rows, columns=["picture", "label"]).to_csv(tmp_path / "t.csv", index=False)
    found = find(tmp_path, train=tmp_path / "t.csv")
    assert found.media == "image" and tables(found)[0]["image_column"] == "picture"


def test_numbers_and_wrong_names_in_a_split_column_leave_it_a_column(tmp_path):
    frame = pd.DataFrame(
        {"text": ["a text that is long enough for it"] * 9, "label": ["x", "y", "z"] * 3, "fold": [0, 1, 2] * 3}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert "split_column" not in tables(find(tmp_path, train=tmp_path / "t.csv"))[0]


def test_arrays_named_by_split_are_tables_of_their_own(tmp_path):
    arrays = {}
    for split, n in (("train", 6), ("val", 4), ("test", 2)):
        arrays[f"{split}_images"] = np.zeros((n, 8, 8), np.uint8)
        arrays[f"{split}_labels"] = np.arange(n).reshape(-1, 1) % 2
    np.savez(tmp_path / "med.npz", **arrays)
    found = find(tmp_path, train=tmp_path / "med.npz")
    assert [(t["split"], t["inputs"], t["labels"]) for t in tables(found)] == [
        ("train", "train_images", "train_labels"),
        ("test", "val_images", "val_labels"),
        ("test", "test_images", "test_labels"),
    ]
    assert found.media == "image" and found.classes == ("0", "1")


def test_arrays_as_keras_and_scikit_learn_name_them(tmp_path):
    np.savez(
        tmp_path / "k.npz", x_train=np.zeros((4, 5)), y_train=np.arange(4) % 2, x_test=np.zeros((2, 5)), y_test=[0, 1]
    )
    found = find(tmp_path, train=tmp_path / "k.npz")
    assert found.media == "vector" and [t["inputs"] for t in tables(found)] == ["x_train", "x_test"]
    np.savez(tmp_path / "two.npz", a=np.zeros((4, 5)), b=np.zeros((4, 6)), y=np.arange(4) % 2)
    with pytest.raises(HardlookError, match=r"2 arrays may be the inputs \(a, b\)"):
        find(tmp_path, train=tmp_path / "two.npz")


def test_texts_in_folders_are_texts(tmp_path):
    for name in ("neg", "pos"):
        (tmp_path / "reviews" / name).mkdir(parents=True)
        (tmp_path / "reviews" / name / "1.txt").write_text(f"a {name} review")
    found = find(tmp_path, train=tmp_path / "reviews")
    assert found.media == "text" and found.classes == ("neg", "pos")


def test_paths_of_two_kinds_are_refused(tmp_path):
    write_images(tmp_path / "images", {"train": 2})
    np.savez(tmp_path / "v.npz", x=np.zeros((4, 5)), y=np.arange(4) % 2)
    with pytest.raises(HardlookError, match=r"examples of several kinds \(image, vector\)"):
        find(tmp_path, train=tmp_path / "images" / "train", test=tmp_path / "v.npz")


def test_a_folder_without_examples_says_what_it_holds(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.doc").write_text("x")
    with pytest.raises(HardlookError, match=r"no example was found \(it holds a.doc\)"):
        find(tmp_path, train=tmp_path / "notes")


def test_data_without_a_model_is_an_audit_for_imported_predictions(work, capsys):
    assert hardlook("new", "my-audit", "--train", "images") == 0
    assert "hardlook import-predictions" in capsys.readouterr().out
    assert settings(work / "my-audit")["classes"] == ["cat", "dog", "eel"] and "run" not in settings(work / "my-audit")


TOOLS = [
    ("datumaro-1.13.12/cvat", {"split_map": {"val": "test"}}, ("dog", "cat", "Großer Panda")),
    ("datumaro-1.13.12/datumaro", {"split_map": {"val": "test"}}, ("dog", "cat", "Großer Panda")),
    ("datumaro-1.13.12/imagenet_txt", {"split_map": {"val": "test"}}, ("dog", "cat", "Großer Panda")),
    ("fiftyone-1.22.1/samples", {"split_map": {"validation": "test"}}, ("dog", "cat", "Großer Panda")),
    ("fiftyone-1.22.1/indices", {"split": "train"}, ("dog", "cat", "Großer Panda")),
    ("fiftyone-1.22.1/tree", {"split": "train"}, ("Großer Panda", "cat", "dog")),
    ("label-studio-1.23.2/tasks.json", {"split": "train"}, ("Großer Panda", "cat", "dog")),
    ("label-studio-1.23.2/tasks.csv", {"split": "train"}, ("Großer Panda", "cat")),
    ("mlcroissant-1.1.1/folders", {"split": "train"}, ("Großer Panda", "cat", "dog")),
    ("webdataset-1.0.2/train-000.tar", {"split": "train"}, ("0", "1", "2")),
]


@pytest.mark.parametrize("name, keys, classes", TOOLS, ids=[name for name, *_ in TOOLS])
def test_what_another_tool_wrote_needs_its_path_alone(tmp_path, name, keys, classes):
    place = FILES / name
    (shutil.copytree if place.is_dir() else shutil.copy)(place, tmp_path / place.name)
    found = find(tmp_path, train=tmp_path / place.name)
    assert tables(found) == [{"path": f"../{place.name}", **keys}] and found.classes == classes
    config = {"format": 1, "classes": list(classes), "data": tables(found)}
    splits = [
        split for source in open_sources(Audit(tmp_path / "my-audit", config)) for split in source.listing().splits
    ]
    assert set(splits) == ({"train", "test"} if "split_map" in keys else {"train"})


def test_rows_of_numbers_of_a_tool_are_told_from_its_images(tmp_path):
    shutil.copytree(FILES / "mlcroissant-1.1.1" / "table", tmp_path / "table")
    assert find(tmp_path, train=tmp_path / "table").media in ("text", "vector")


def _table_of_paths(root, place, count=12):
    """A CSV at ``place`` whose paths start at ``root``, with the files."""
    rows = ["path,label"]
    for at in range(count):
        file = root / "pictures" / f"{at}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(file)
        rows.append(f"pictures/{at}.png,{'ab'[at % 2]}")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("\n".join(rows))


def test_paths_of_a_table_may_start_at_the_working_directory(tmp_path, monkeypatch):
    _table_of_paths(tmp_path / "work", tmp_path / "lists" / "train.csv")
    (tmp_path / "work" / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    found = find(tmp_path, train="../lists/train.csv")
    assert tables(found)[0]["folder"] == "../work" and not found.asked
    config = {"format": 1, "classes": ["a", "b"], "data": tables(found)}
    paths = open_sources(Audit(tmp_path / "my-audit", config))[0].listing().paths
    assert len(paths) == 12 and all(os.path.isfile(path) for path in paths)


def test_files_of_a_table_that_are_not_there_are_a_question_with_the_first(tmp_path):
    _table_of_paths(tmp_path, tmp_path / "train.csv")
    assert not find(tmp_path, train=tmp_path / "train.csv").asked
    (tmp_path / "pictures" / "3.png").unlink()
    (said,) = find(tmp_path, train=tmp_path / "train.csv").asked
    assert "1 of 12 files that it names are not there, the first: " in said and said.count("3.png") == 1
    (tmp_path / "pictures").rename(tmp_path / "moved")
    (said,) = find(tmp_path, train=tmp_path / "train.csv").asked
    assert "no file that it names is there, the first: " in said and 'or at `folder = "…"` in its [[data]]' in said


def _shards(folder, names):
    """Tar shards as WebDataset writes them: three pictures each, with a class."""
    writer = pytest.importorskip("webdataset").TarWriter
    folder.mkdir()
    for name in names:
        with writer(str(folder / name)) as shard:
            for at in range(3):
                shard.write(
                    {"__key__": f"{name[:-4]}-{at}", "png": Image.new("RGB", (4, 4)), "json": {"label": "ab"[at % 2]}}
                )


@pytest.mark.parametrize(
    "names, splits",
    [
        (("train-000000.tar", "train-000001.tar", "val-000000.tar"), {"train": 6, "test": 3}),
        (("my_train_0.tar", "my_train_1.tar", "my_test_0.tar", "my_val_0.tar"), {"train": 6, "test": 6}),
        (("0-train.tar", "1-test.tar", "2-train.tar"), {"train": 6, "test": 3}),
        (("a-0.tar", "a-1.tar"), {"train": 6}),
    ],
)
def test_shards_are_of_the_split_that_their_names_speak_of(tmp_path, names, splits):
    _shards(tmp_path / "shards", names)
    config = {"format": 1, "classes": ["a", "b"], "data": tables(find(tmp_path, train=tmp_path / "shards"))}
    listings = [source.listing() for source in open_sources(Audit(tmp_path / "my-audit", config))]
    assert Counter(split for each in listings for split in each.splits) == splits
    ids = {split: {key for each in listings if split in each.splits for key in each.ids} for split in splits}
    assert all(("train" in key or key.startswith("a-")) == (split == "train") for split in ids for key in ids[split])


def test_shards_of_which_some_name_no_split_are_refused(tmp_path):
    _shards(tmp_path / "shards", ("extra.tar", "train-0.tar", "val-0.tar"))
    with pytest.raises(HardlookError, match="train-0.tar, which names its split, and extra.tar, which names none"):
        find(tmp_path, train=tmp_path / "shards")


def test_rows_that_a_tool_says_cannot_be_read_are_a_question(tmp_path):
    columns = ("annotation_id", "annotator", "choice", "created_at", "id", "image", "lead_time", "updated_at")
    rows = [(at, 1, "ab"[at % 2], "2024", at, f"/data/local-files/?d=gone/{at}.png", 1, "2024") for at in range(6)]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "project.csv", index=False)
    found = find(tmp_path, train=tmp_path / "project.csv")
    assert found.classes == ("a", "b") and len(found.asked) == 1 and "gone/0.png" in found.asked[0]


def test_data_of_one_class_is_a_question(work, capsys):
    (work / "coco" / "annotations").mkdir(parents=True)
    (work / "images" / "train").rename(work / "coco" / "images")
    assert hardlook("new", "my-audit", "--train", "coco") == 0
    assert "classes: the data has one class, 'images'; needed two or more" in capsys.readouterr().out
    assert "classes" not in settings(work / "my-audit")


def test_held_out_data_beside_the_training_data_is_told(tmp_path):
    images = write_images(tmp_path / "images", {"train": 2, "val": 2})
    assert any(
        "images/val lies beside it: --test reads it" in said for said in find(tmp_path, train=images / "train").said
    )
    both = find(tmp_path, train=images / "train", test=images / "val")
    assert not any("lies beside it" in said for said in (*both.said, *find(tmp_path, train=images).said))
