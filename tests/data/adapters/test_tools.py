"""The adapters of other tools' exports: on files that the tools wrote, against what their own readers make of them."""

import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table
from scoring.data.adapters import known_adapters
from scoring.data.adapters.json_files import head_shape
from scoring.data.adapters.webdataset import samples
from scoring.data.ingest import ingest

from .tools import FILES, kept, labels_by_name, source_of

PANDA = "Großer Panda"
CLASSES = ["dog", "cat", PANDA]


def read(name):
    return json.loads((FILES / name / "read.json").read_text(encoding="utf8"))


def whole(subset):
    """The table of a folder ``data``, of one subset."""
    return f'path = "data"\nsplit = "train"\nsubset = "{subset}"'


# -- Datumaro, CVAT, ImageNet ------------------------------------------------------------------------


@pytest.mark.parametrize("kind, adapter", [("datumaro", "datumaro"), ("cvat", "cvat"), ("imagenet_txt", "imagenet")])
@pytest.mark.parametrize("subset", ["train", "val"])
def test_labels_order_and_pictures_are_those_of_datumaros_reader(tmp_path, kind, adapter, subset):
    kept(tmp_path, f"datumaro-1.13.12/{kind}")
    source, expected = source_of(tmp_path, whole(subset), CLASSES), read(f"datumaro-1.13.12/{kind}")
    assert source.name == adapter and source.names_of_classes() == expected["labels"] == CLASSES
    items = {item["path"]: item["labels"] for item in expected["items"] if item["subset"] == subset}
    listing = source.listing()
    found = {}
    for row, path in enumerate(listing.paths):
        label, problem = listing.labels[row], listing.problems.get(row)
        found[str(Path(path).relative_to(tmp_path / "data"))] = [label] if label else ["several"] if problem else []
    assert found == {path: labels if len(labels) < 2 else ["several"] for path, labels in items.items()}
    assert all(Path(path).is_file() for path in listing.paths) and not source.turns
    several = ["has the labels 'dog', 'cat' (multi-label)" in problem for problem in listing.problems.values()]
    assert several == ([True] if subset == "val" else [])


def test_subsets_are_splits_where_their_names_say_so(tmp_path):
    kept(tmp_path, "datumaro-1.13.12/datumaro")
    with pytest.raises(HardlookError, match="has the subset 'val', which is no split; .* split_map = {{? \"val\" = "):
        source_of(tmp_path, 'path = "data"', CLASSES).listing()
    listing = source_of(tmp_path, 'path = "data"\nsplit_map = { val = "test" }', CLASSES).listing()
    assert sorted(listing.splits) == ["test"] * 3 + ["train"] * 3
    assert source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES).listing().names[0] == "train/one"
    with pytest.raises(HardlookError, match="needs subset, the one that is its test split; .* has 'train', 'val'"):
        source_of(tmp_path, 'path = "data"\nsplit = "test"', CLASSES).listing()
    both = 'path = "data"\nsplit = "test"\nsplit_map = { val = "test", train = "test" }'
    assert len(source_of(tmp_path, both, CLASSES).listing()) == 6
    one = 'path = "data"\nsplit = "test"\nsplit_map = { val = "test" }'
    assert len(source_of(tmp_path, one, CLASSES).listing()) == 3
    with pytest.raises(HardlookError, match="subset = 'vak': .* has no such subset; did you mean val"):
        source_of(tmp_path, whole("vak"), CLASSES).listing()


def test_attributes_become_metadata_and_the_file_itself_may_be_named(tmp_path):
    kept(tmp_path, "datumaro-1.13.12/datumaro")
    listing = source_of(tmp_path, 'path = "data/annotations/val.json"\nsplit = "test"', CLASSES).listing()
    assert listing.metadata["frame"].to_pylist() == [3, 4, 5]
    assert listing.metadata["source"].to_pylist() == ["camera 1"] * 3


def test_cvat_names_subsets_of_a_project_and_attributes_of_tags(tmp_path):
    kept(tmp_path, "datumaro-1.13.12/cvat")
    xml = (
        (tmp_path / "data/train.xml").read_text(encoding="utf8").replace('name="one.png"', 'name="one.png" subset="A"')
    )
    xml = xml.replace('<tag label="dog">', '<tag label="dog"><attribute name="age">old</attribute>')
    shutil.rmtree(tmp_path / "data" / "images" / "sub")
    (tmp_path / "data/images/A").mkdir()
    (tmp_path / "data/images/one.png").rename(tmp_path / "data/images/A/one.png")
    (tmp_path / "data/val.xml").unlink()
    (tmp_path / "data/train.xml").unlink()
    (tmp_path / "data/annotations.xml").write_text(xml, encoding="utf8")
    source = source_of(tmp_path, 'path = "data"\nsplit = "train"\nsubset = "A"', CLASSES)
    listing = source.listing()
    assert source.name == "cvat" and listing.paths == [str(tmp_path / "data/images/A/one.png")]
    assert listing.metadata["age"].to_pylist() == ["old"]
    tracks = xml.replace("<image ", "<track/><image ", 1)
    (tmp_path / "data/annotations.xml").write_text(tracks, encoding="utf8")
    with pytest.raises(HardlookError, match="is of a video .it has tracks.; export it as CVAT for images 1.1"):
        source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES).listing()


def test_imagenet_without_lists_is_an_image_folder(tmp_path):
    kept(tmp_path, "datumaro-1.13.12/imagenet")
    source, expected = source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES), read("datumaro-1.13.12/imagenet")
    assert source.name == "folder"
    named = {item["path"]: item["labels"][0] for item in expected["items"]}
    assert labels_by_name(source) == named and len(named) == 4


def test_a_number_beyond_the_classes_is_refused(tmp_path):
    kept(tmp_path, "datumaro-1.13.12/imagenet_txt")
    (tmp_path / "data/train.txt").write_text("one.png 3\n")
    with pytest.raises(HardlookError, match="line 1 of train.txt has class 3; synsets.txt has 3 classes"):
        source_of(tmp_path, whole("train"), CLASSES).listing()


# -- FiftyOne ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["indices", "names", "confidences"])
def test_labels_and_pictures_are_those_of_fiftyones_importer(tmp_path, kind):
    kept(tmp_path, f"fiftyone-1.22.1/{kind}")
    source = source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES)
    listing = source.listing()
    found = {
        str(Path(path).relative_to(tmp_path / "data")): label
        for path, label in zip(listing.paths, listing.labels, strict=True)
    }
    assert source.name == "fiftyone" and found == read("fiftyone-1.22.1")[kind] and source.turns
    assert source.names_of_classes() == (CLASSES if kind == "indices" else None)
    assert "as in FiftyOne" in source.describe_exif()


def test_fiftyones_directory_tree_is_an_image_folder_with_unlabelled_ones(tmp_path):
    kept(tmp_path, "fiftyone-1.22.1/tree")
    expected = read("fiftyone-1.22.1")
    source = source_of(tmp_path, 'path = "data"\nsplit = "train"', expected["tree classes"])
    assert source.name == "folder" and labels_by_name(source) == expected["tree"]
    ingest(Audit.open(tmp_path))
    rows = read_table(tmp_path / "examples.parquet").to_pandas()
    assert rows.loc[rows["label"].isna(), "example_id"].tolist() == ["data/_unlabeled/bild 4.png"]
    source = source_of(tmp_path, 'path = "data"\nsplit = "train"', [*CLASSES, "_unlabeled"])
    assert labels_by_name(source)["_unlabeled/bild 4.png"] == "_unlabeled", "a class that is called so is one"


def test_several_classifications_are_a_problem(tmp_path):
    kept(tmp_path, "fiftyone-1.22.1/several")
    listing = source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES).listing()
    assert listing.labels == [None, "dog"] and "'dog', 'cat' (multi-label)" in listing.problems[0]


def test_samples_have_their_field_tags_and_metadata(tmp_path):
    kept(tmp_path, "fiftyone-1.22.1/samples")
    source = source_of(tmp_path, 'path = "data"\nsplit_map = { validation = "test" }', CLASSES)
    listing = source.listing()
    assert source.name == "fiftyone" and source.names_of_classes() == CLASSES
    assert listing.labels == ["dog", "cat", PANDA, "dog", None]
    assert listing.splits == ["train"] * 3 + ["test"] * 2
    assert listing.metadata["weather"].to_pylist() == ["rainy", "sunny", "rainy", "sunny", "rainy"]
    assert listing.metadata["model"].to_pylist() == ["cat"] * 5
    assert all(Path(path).is_file() for path in listing.paths)
    assert source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES).listing().notes == [
        "2 examples of other subsets ('validation') are not read by this table"
    ]
    other = source_of(tmp_path, 'path = "data"\nsplit = "train"\nlabel_column = "model"', CLASSES)
    assert other.listing().labels == ["cat"] * 3
    with pytest.raises(
        HardlookError, match="label_column = 'modle': no sample has such a classification; did you mean model"
    ):
        source_of(tmp_path, 'path = "data"\nsplit = "train"\nlabel_column = "modle"', CLASSES).listing()


def test_tags_of_two_subsets_are_a_problem_and_untagged_samples_are_told(tmp_path):
    folder = kept(tmp_path, "fiftyone-1.22.1/samples")
    content = json.loads((folder / "samples.json").read_text())
    content["samples"][0]["tags"], content["samples"][1]["tags"] = ["train", "test"], []
    (folder / "samples.json").write_text(json.dumps(content))
    listing = source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES).listing()
    assert list(listing.problems.values()) == [
        "has the tags 'train' and 'test', which are two subsets; keep one of them"
    ]
    assert listing.notes == ["3 examples of other subsets (none, 'validation') are not read by this table"]


def test_two_fields_without_a_ground_truth_need_a_choice(tmp_path):
    folder = kept(tmp_path, "fiftyone-1.22.1/samples")
    text = (folder / "samples.json").read_text().replace('"ground_truth"', '"mine"')
    (folder / "samples.json").write_text(text)
    with pytest.raises(HardlookError, match="needs label_column, the field with the label; .* have mine, model"):
        source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES).listing()


# -- Roboflow ----------------------------------------------------------------------------------------


def roboflow(root, splits=("train", "valid", "test")):
    """As Roboflow documents it: a space before each class and cell."""
    for split in splits:
        (root / split).mkdir(parents=True)
        for at in range(4):
            Image.new("RGB", (16, 16), (at, 0, 0)).save(root / split / f"a{at}.jpg")
        rows = "a0.jpg, 1, 0, 0\na1.jpg, 0, 1, 0\na2.jpg, 0, 1, 1\na3.jpg, 0, 0, 0\n"
        (root / split / "_classes.csv").write_text(f"filename, dog, cat, bird\n{rows}")


def test_roboflows_table_gives_the_column_that_is_one(tmp_path):
    roboflow(tmp_path / "data")
    source = source_of(tmp_path, 'path = "data/train"\nsplit = "train"', ["dog", "cat", "bird"])
    listing = source.listing()
    assert source.name == "roboflow" and source.names_of_classes() == ["dog", "cat", "bird"]
    assert listing.labels == ["dog", "cat", None, None]
    (row, problem), *rest = listing.problems.items()
    assert row == 2 and problem.startswith("has the labels 'cat', 'bird' (multi-label)") and not rest
    both = source_of(tmp_path, 'path = "data"\nsplit_map = { valid = "pool" }', ["dog", "cat", "bird"]).listing()
    assert both.splits == ["test"] * 4 + ["train"] * 4 + ["pool"] * 4
    assert both.paths[0] == str(tmp_path / "data/test/a0.jpg")


def test_roboflows_splits_must_have_the_same_classes(tmp_path):
    roboflow(tmp_path / "data")
    table = tmp_path / "data/test/_classes.csv"
    table.write_text(table.read_text().replace("dog, cat", "cat, dog"))
    with pytest.raises(HardlookError, match="have other classes; needed the same columns in each split"):
        source_of(tmp_path, 'path = "data"', ["dog"]).names_of_classes()


# -- WebDataset --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["data/train-{000..001}.tar", "data/train-*.tar", "data"])
def test_shards_give_what_the_library_reads(tmp_path, path):
    kept(tmp_path, "webdataset-1.0.2")
    expected = read("webdataset-1.0.2")
    source = source_of(tmp_path, f'path = "{path}"\nsplit = "train"', CLASSES)
    listing = source.listing()
    pictures = [hashlib.sha256(source.stored(row)).hexdigest() for row in range(len(listing))]
    labels = [int(label) for label in listing.labels]
    assert source.name == "webdataset" and not source.turns
    assert dict(zip(listing.ids, map(list, zip(pictures, labels, strict=True)), strict=True)) == expected
    assert listing.metadata["place"].to_pylist() == ["Röm"] * 6
    assert listing.metadata["size"].to_pylist() == [0, 1, 2] * 2 and "list" not in listing.metadata
    ingest(Audit.open(tmp_path))
    rows = read_table(tmp_path / "examples.parquet").to_pandas()
    assert rows["label"].tolist() == CLASSES * 2 and rows["problem"].isna().all()


def test_the_library_groups_members_as_the_adapter_does(tmp_path):
    tariterators = pytest.importorskip("webdataset.tariterators")
    names = ["a.jpg", "a.seg.txt", "b.v1/c.PNG", "b.v1/c.cls", "__meta__", "d", "e.jpg", "a.cls"]
    add(tmp_path / "a.tar", [(name, name.encode()) for name in names])
    with open(tmp_path / "a.tar", "rb") as file:
        grouped = tariterators.group_by_keys(
            {"fname": name, "data": data, "__url__": "a"}
            for name, data in ((one["fname"], one["data"]) for one in tariterators.tar_file_iterator(file))
        )
        expected = [(one.pop("__key__"), one) for one in grouped]
    expected = [
        (key, {name: value for name, value in one.items() if not name.startswith("__")}) for key, one in expected
    ]
    found = [
        (each.key, {name: part.read() for name, part in each.parts.items()})
        for each in samples(str(tmp_path / "a.tar"))
    ]
    assert found == expected and [key for key, _ in found] == ["a", "b.v1/c", "e", "a"]


def add(shard, members):
    with tarfile.open(shard, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_keys_that_repeat_in_another_shard_have_its_name(tmp_path):
    for shard in "ab":
        add(
            tmp_path / f"{shard}.tar",
            [("0.jpg", b"1"), ("0.cls", b"dog"), (f"{shard}1.jpg", b"2"), (f"{shard}1.cls", b"1")],
        )
    listing = source_of(tmp_path, 'path = "{a,b}.tar"\nsplit = "train"', ["dog", "cat"]).listing()
    assert listing.ids == ["a/0", "a1", "b/0", "b1"] and listing.labels == ["dog", "1", "dog", "1"]


def test_shards_that_cannot_be_read_or_are_ambiguous_are_refused(tmp_path):
    add(tmp_path / "a.tar", [("0.jpg", b"1"), ("0.png", b"1"), ("0.cls", b"0")])
    with pytest.raises(HardlookError, match="needs input_field, since one example has several: jpg, png"):
        source_of(tmp_path, 'path = "a.tar"\nsplit = "train"', CLASSES).listing()
    assert source_of(tmp_path, 'path = "a.tar"\nsplit = "train"\ninput_field = "png"', CLASSES).listing().ids == ["0"]
    add(tmp_path / "b.tar", [("0.jpg", b"1"), ("0.jpg", b"1")])
    with pytest.raises(HardlookError, match="has '0.jpg' twice"):
        source_of(tmp_path, 'path = "b.tar"\nsplit = "train"', CLASSES).listing()
    (tmp_path / "c.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(HardlookError, match="is no tar file that can be read in place"):
        source_of(tmp_path, 'path = "c.tar"\nsplit = "train"', CLASSES).listing()
    with pytest.raises(HardlookError, match="there is nothing at .*d-1.tar"):
        source_of(tmp_path, 'path = "d-{1..3}.tar"\nsplit = "train"', CLASSES).listing()
    with pytest.raises(HardlookError, match="is not on this machine; download the shards first"):
        source_of(tmp_path, 'path = "https://x.org/d.tar"\nsplit = "train"', CLASSES).listing()


def test_a_label_in_json_and_an_example_without_a_picture(tmp_path):
    add(tmp_path / "a.tar", [("0.jpg", b"1"), ("0.json", b'{"label": "cat", "n": 1}'), ("1.json", b'{"label": ["a"]}')])
    listing = source_of(tmp_path, 'path = "a.tar"\nsplit = "train"', CLASSES).listing()
    assert listing.labels == ["cat", None] and "one label per example" in listing.problems[1]
    assert listing.metadata["n"].to_pylist() == [1, None]


# -- metadata.csv, .jsonl, .parquet of Hugging Face --------------------------------------------------


def write_metadata(folder, kind, rows):
    """The file as pandas writes it, and a turned picture per row."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "csv":
        frame.to_csv(folder / "metadata.csv", index=False)
    elif kind == "jsonl":
        frame.to_json(folder / "metadata.jsonl", orient="records", lines=True, force_ascii=False)
    else:
        frame.to_parquet(folder / "metadata.parquet")
    for at, name in enumerate(frame["file_name"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(np.random.default_rng(at).integers(0, 255, (8, 16, 3), dtype=np.uint8))
        exif = picture.getexif()
        exif[274] = 6
        picture.save(folder / name, exif=exif)


ROWS = [
    {"file_name": "b/1.jpg", "label": "dog", "age": 3, "note": "fine"},
    {"file_name": "a/2.jpg", "label": "cat", "age": 4, "note": ""},
    {"file_name": "3 ä.jpg", "label": PANDA, "age": 5, "note": "x, y"},
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # datasets leaves metadata.csv open
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_metadata_folder_gives_what_datasets_reads(tmp_path, kind):
    import datasets

    write_metadata(tmp_path / "data", kind, ROWS)
    source = source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES)
    listing = source.listing()
    expected = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "data"), split="train", cache_dir=tmp_path / "c"
    )
    assert source.name == "metadata-folder" and listing.labels == expected["label"]
    assert listing.metadata["age"].to_pylist() == expected["age"]
    for row, image in enumerate(expected["image"]):
        np.testing.assert_array_equal(np.asarray(source.original(row, listing.path(row))), np.asarray(image))
        assert image.size == (8, 16), "datasets turns by the EXIF orientation"
    assert listing.names == [row["file_name"] for row in ROWS]


def test_numbers_stay_numbers_and_folders_of_splits_are_splits(tmp_path):
    for split in ("train", "test"):
        write_metadata(tmp_path / "data" / split, "jsonl", [row | {"label": at} for at, row in enumerate(ROWS)])
    listing = source_of(tmp_path, 'path = "data"', CLASSES).listing()
    assert listing.labels == [0, 1, 2] * 2 and listing.splits == ["test"] * 3 + ["train"] * 3
    one = source_of(tmp_path, 'path = "data/train/metadata.jsonl"\nsplit = "train"', CLASSES)
    assert one.name == "metadata-folder" and one.listing().paths == [
        str(tmp_path / "data/train" / row["file_name"]) for row in ROWS
    ]


def test_folders_that_contradict_the_column_are_refused(tmp_path):
    rows = [
        {"file_name": f"{folder}/{at}.jpg", "label": label} for at, (folder, label) in enumerate(["ab", "bb", "aa"])
    ]
    write_metadata(tmp_path / "data", "csv", rows)
    with pytest.raises(
        HardlookError, match=r"1 labels of metadata.csv are not the folder of their file, .*a/0.jpg is 'b'"
    ):
        source_of(tmp_path, 'path = "data"\nsplit = "train"', ["a", "b"]).listing()
    kept_column = source_of(tmp_path, 'path = "data"\nsplit = "train"\ndrop_labels = true', ["a", "b"])
    assert kept_column.listing().labels == ["b", "b", "a"]
    folders = source_of(tmp_path, 'path = "data"\nsplit = "train"\nadapter = "folder"', ["a", "b"])
    assert labels_by_name(folders) == {"a/0.jpg": "a", "a/2.jpg": "a", "b/1.jpg": "b"}


def test_an_image_folder_with_a_table_of_other_things_stays_one(tmp_path):
    write_metadata(tmp_path / "data", "csv", [{"file_name": "a/0.jpg", "camera": "x"}, {"file_name": "b/1.jpg"}])
    source = source_of(tmp_path, 'path = "data"\nsplit = "train"', ["a", "b"])
    assert source.name == "folder" and labels_by_name(source) == {"a/0.jpg": "a", "b/1.jpg": "b"}


# -- Croissant ---------------------------------------------------------------------------------------


def pixels(source, listing):
    """The digest of each picture as mlcroissant's reader has it."""
    rows = range(len(listing))
    images = [np.asarray(source.original(row, listing.path(row))) for row in rows]
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


@pytest.mark.parametrize("kind, label", [("folders", "label"), ("joined", "class")])
@pytest.mark.parametrize("unpacked", [False, True])
def test_croissants_pictures_have_the_labels_that_mlcroissant_reads(tmp_path, kind, label, unpacked):
    folder = kept(tmp_path, f"mlcroissant-1.1.1/{kind}")
    if unpacked:
        with zipfile.ZipFile(folder / f"{kind}.zip") as archive:
            archive.extractall(folder / kind)
        (folder / f"{kind}.zip").unlink()
    source = source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES)
    listing = source.listing()
    expected = {record["image"]: record for record in read(f"mlcroissant-1.1.1/{kind}")}
    assert source.name == "croissant" and not source.turns
    found = dict(zip(pixels(source, listing), listing.labels, strict=True))
    assert found == {image: record[label] for image, record in expected.items()} and len(found) == 4
    if kind == "joined":
        ages = dict(zip(pixels(source, listing), listing.metadata["age"].to_pylist(), strict=True))
        assert ages == {image: record["age"] for image, record in expected.items()}
    ingest(Audit.open(tmp_path))
    assert read_table(tmp_path / "examples.parquet").to_pandas()["problem"].isna().all()


def test_a_table_from_an_unpacked_archive_is_found(tmp_path):
    folder = kept(tmp_path, "mlcroissant-1.1.1/table")
    told = json.loads((folder / "metadata.json").read_text(encoding="utf8"))
    archive = {"@type": "cr:FileObject", "@id": "all.zip", "contentUrl": "https://example.org/all.zip"}
    told["distribution"][0]["containedIn"] = {"@id": "all.zip"}
    told["distribution"].append(archive)
    (folder / "metadata.json").write_text(json.dumps(told), encoding="utf8")
    (folder / "all").mkdir()
    (folder / "texts.csv").rename(folder / "all/texts.csv")
    source = source_of(tmp_path, 'path = "data"\nsplit = "train"', ["good", "bad"], media="text")
    assert source.listing().labels == ["good", "bad"]


def test_a_table_of_texts_is_read_by_the_fields_of_its_record_set(tmp_path):
    kept(tmp_path, "mlcroissant-1.1.1/table")
    source = source_of(tmp_path, 'path = "data/metadata.json"\nsplit = "train"', ["good", "bad"], media="text")
    listing, expected = source.listing(), read("mlcroissant-1.1.1/table")
    assert [source.stored(row) for row in range(2)] == [record["words"] for record in expected]
    assert listing.labels == [record["feeling"] for record in expected]
    assert listing.metadata["age"].to_pylist() == [record["age"] for record in expected]


def test_files_that_are_not_there_and_sets_that_are_not_clear_are_refused(tmp_path):
    folder = kept(tmp_path, "mlcroissant-1.1.1/joined")
    (folder / "joined.zip").rename(tmp_path / "elsewhere.zip")
    with pytest.raises(HardlookError, match="joined.zip .joined.zip. is not beside metadata.json; download it"):
        source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES).listing()
    (tmp_path / "elsewhere.zip").rename(folder / "joined.zip")
    table = folder / "labels.csv"
    table.write_text(table.read_text() + "b0.png,cat,9\n")
    with pytest.raises(HardlookError, match="has 'b0.png' twice in its column 'file'; needed one row per file"):
        source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES).listing()
    with pytest.raises(HardlookError, match="needs record_set, the set with the vector data; there is records"):
        source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES, media="vector").listing()


# -- which adapter -----------------------------------------------------------------------------------


def test_what_two_adapters_recognise_is_refused_with_their_names(tmp_path):
    kept(tmp_path, "fiftyone-1.22.1/indices")
    roboflow(tmp_path / "data", ["train"])
    with pytest.raises(HardlookError, match="can be 'fiftyone' or 'roboflow'; say which: adapter = \"fiftyone\""):
        source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES)
    assert source_of(tmp_path, 'path = "data"\nadapter = "roboflow"', CLASSES).listing().splits == ["train"] * 4


def test_json_of_no_known_kind_is_refused_with_the_adapters(tmp_path):
    (tmp_path / "a.json").write_text('{"x": 1}')
    with pytest.raises(HardlookError, match="is of no known kind; .* or an adapter: .*label-studio"):
        source_of(tmp_path, 'path = "a.json"\nsplit = "train"')


def test_each_tool_says_what_is_wrong_where_it_is_named_for_other_data(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("datumaro", "cvat", "imagenet", "fiftyone", "roboflow", "metadata-folder", "croissant"):
        if name in known_adapters():
            with pytest.raises(HardlookError, match="name another adapter"):
                source_of(tmp_path, f'path = "data"\nsplit = "train"\nadapter = "{name}"', CLASSES).listing()


def test_a_files_kind_is_told_from_its_beginning(tmp_path):
    """Whatever a large file holds further on: it is not parsed to be recognised."""
    items = ", ".join('{"id": "x", "annotations": []}' for _ in range(40_000))
    folder = tmp_path / "data" / "annotations"
    folder.mkdir(parents=True)
    (folder / "train.json").write_text('{"categories": {"label": {"labels": []}}, "items": [' + items + "]} broken")
    assert source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES).name == "datumaro"
    with pytest.raises(HardlookError, match="train.json is not JSON"):
        source_of(tmp_path, 'path = "data"\nsplit = "train"', CLASSES).listing()


LEAVES = st.none() | st.integers() | st.text()
INNER = LEAVES | st.lists(LEAVES, max_size=4) | st.dictionaries(st.text(), LEAVES, max_size=4)


@given(
    INNER | st.lists(INNER, max_size=4) | st.dictionaries(st.text(), INNER, max_size=4),
    st.sampled_from([None, 2]),
    st.booleans(),
)
def test_the_beginning_tells_the_keys_that_parsing_tells(value, indent, escaped):
    first = value[0] if isinstance(value, list) and value else value
    expected = isinstance(value, list), frozenset(first) if isinstance(first, dict) else frozenset()
    assert head_shape(json.dumps(value, indent=indent, ensure_ascii=escaped)) == expected


def test_links_that_lead_nowhere_and_to_themselves_are_recognised_as_nothing(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("round", "metadata.csv", "labels.json", "annotations", "synsets.txt", "data", "_classes.csv"):
        (folder / name).symlink_to(folder / name)
    (folder / "away").symlink_to(tmp_path / "gone")
    assert not [kind.name for kind in known_adapters().values() if kind.recognises(folder)]
    assert not [kind.name for kind in known_adapters().values() if kind.recognises(folder / "round")]
