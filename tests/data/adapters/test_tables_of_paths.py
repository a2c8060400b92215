"""Manifests as people and tools write them: other layouts of Arrow, one-hot tables, paths of Windows, no labels at
all."""

import io
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.data.adapters import open_sources
from scoring.data.examples import Originals, read_examples
from scoring.data.ingest import ingest


def png(colour=0, size=(4, 3)):
    buffer = io.BytesIO()
    Image.new("L", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def audit_of(root, data, classes=("cat", "dog"), media="image"):
    names = f"classes = {json.dumps(list(classes))}\n" if classes else ""
    (root / "audit.toml").write_text(f'format = 1\nmedia = "{media}"\n{names}{data}\n', encoding="utf8")
    return Audit.open(root)


DATA = '[[data]]\nsplit = "train"\npath = "{}"\n'


@pytest.mark.parametrize(
    "text",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
    ],
)
@pytest.mark.parametrize(
    "blob", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int8(), pa.binary())]
)
def test_every_layout_of_text_and_bytes_is_read_as_text_and_bytes(tmp_path, text, blob):
    def column(values, kind):
        return (
            pa.array(values).dictionary_encode().cast(kind)
            if pa.types.is_dictionary(kind)
            else pa.array(values).cast(kind)
        )

    table = pa.table(
        {
            "image": column([png(1), png(2)], blob),
            "label": column(["cat", "dog"], text),
            "place": column(["Rome", "Oslo"], text),
            "example_id": column(["x", "y"], text),
        }
    )
    pq.write_table(table, tmp_path / "data.parquet")
    audit = audit_of(tmp_path, DATA.format("data.parquet"))
    found = ingest(audit)
    examples = read_examples(audit)
    assert not found.problems and not found.notes
    assert examples[["example_id", "label", "meta.place"]].values.tolist() == [
        ["x", "cat", "Rome"],
        ["y", "dog", "Oslo"],
    ]
    assert [Originals(audit).read(0, row).getpixel((0, 0)) for row in (0, 1)] == [1, 2]


@pytest.mark.parametrize("view", [pa.string_view(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_paths_in_every_layout_are_paths(tmp_path, view):
    (tmp_path / "a.png").write_bytes(png())
    values = pa.array(["a.png"])
    values = values.dictionary_encode() if pa.types.is_dictionary(view) else values.cast(view)
    pq.write_table(pa.table({"path": values, "label": ["cat"]}), tmp_path / "data.parquet")
    audit = audit_of(tmp_path, DATA.format("data.parquet"))
    assert not ingest(audit).problems and read_examples(audit)["example_id"].tolist() == ["a.png"]


def test_columns_of_lists_and_structures_are_left_out_by_name(tmp_path):
    table = pa.table(
        {"image": [png()], "label": ["cat"], "boxes": [[1, 2]], "camera": [{"name": "x"}], "raw": [b"x"], "age": [3]}
    )
    pq.write_table(table, tmp_path / "data.parquet")
    found = ingest(audit_of(tmp_path, DATA.format("data.parquet")))
    assert found.notes == ["data[0]: columns of lists, structs or bytes are not kept as metadata: boxes, camera, raw"]


def test_labels_in_lists_of_one_are_labels_and_longer_ones_are_refused(tmp_path):
    pq.write_table(pa.table({"image": [png(), png(1)], "label": [[1], [0]]}), tmp_path / "data.parquet")
    audit = audit_of(tmp_path, DATA.format("data.parquet"))
    ingest(audit)
    assert read_examples(audit)["label"].tolist() == ["dog", "cat"]
    pq.write_table(pa.table({"image": [png(), png(1)], "label": [[1], [0, 1]]}), tmp_path / "data.parquet")
    with pytest.raises(HardlookError, match="several classes.*one label per example"):
        ingest(audit)


# -------------------------------------------------------------------------------------------------- one column per
# class


def one_hot(root, text, classes=("cat", "dog")):
    for name in "abc":
        (root / f"{name}.png").write_bytes(png(ord(name)))
    (root / "_classes.csv").write_text(text)
    return audit_of(root, DATA.format("_classes.csv"), classes)


def test_a_table_with_one_column_per_class_is_labelled_by_the_column_that_is_one(tmp_path):
    audit = one_hot(tmp_path, "filename, dog, cat, bird,night\na.png, 0, 1, 0,1\nb.png, 1, 0, 0,1\nc.png, 0, 0, 0,0\n")
    found = ingest(audit)
    examples = read_examples(audit)
    assert examples["label"].fillna("").tolist() == ["cat", "dog", ""] and examples["meta.night"].tolist() == [1, 1, 0]
    assert [problem["example_id"] for problem in found.problems] == ["c.png"]
    assert "has no 1 in any class column" in found.problems[0]["problem"]


def test_a_table_with_several_ones_in_a_row_is_refused_with_that_row(tmp_path):
    with pytest.raises(
        HardlookError, match="1 rows have a 1 in several class columns, the first of them row 1 in 'cat' and 'dog'"
    ):
        ingest(one_hot(tmp_path, "filename,cat,dog\na.png,0,1\nb.png,1,1\n"))


def test_the_columns_of_classes_are_the_line_to_paste(tmp_path):
    with pytest.raises(HardlookError, match=r'classes = \["dog", "cat"\]'):
        ingest(one_hot(tmp_path, "filename,dog,cat\na.png,0,1\nb.png,1,0\n", classes=()))


# -------------------------------------------------------------------------------------------------- what is missing or
# wrong


def test_paths_of_windows_are_found_or_named(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/b.png").write_bytes(png())
    (tmp_path / "odd\\name.png").write_bytes(png(3))
    (tmp_path / "data.csv").write_text("path,label\nimages\\b.png,cat\nimages\\c.png,dog\nodd\\name.png,dog\n")
    audit = audit_of(tmp_path, DATA.format("data.csv"))
    found = ingest(audit)
    assert read_examples(audit)["reference"].tolist()[::2] == ["images/b.png", "odd\\name.png"]
    assert [problem["problem"] for problem in found.problems] == [
        "found neither a file images\\c.png nor images/c.png; correct the path"
    ]


@pytest.mark.parametrize("media", ["image", "text", "vector"])
def test_a_table_without_labels_and_without_classes_says_so(tmp_path, media):
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "data.csv").write_text("path,text,age\na.png,hello,3\n")
    with pytest.raises(
        HardlookError,
        match="no example has a label.*label_column is not one of the columns path, text, age; write classes",
    ):
        ingest(audit_of(tmp_path, DATA.format("data.csv"), (), media))


def test_a_broken_item_does_not_stop_the_suggestion_of_classes(tmp_path):
    (tmp_path / "code.py").write_text("""
import numpy as np
class Data:
    def __len__(self): return 4
    def __getitem__(self, row):
        if row == 3: raise OSError("gone")
        return np.zeros((2, 2)), ["b", "a", "10"][row]
def data(): return Data()
""")
    with pytest.raises(HardlookError, match=r'classes = \["10", "a", "b"\]\nHere they are sorted as text'):
        ingest(audit_of(tmp_path, '[[data]]\nsplit = "train"\nfactory = "code.py:data"', ()))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('data = ["images"]', r"data\[0\] = 'images'; needed a table: \[\[data\]\]"),
        ("data = [1]", r"data\[0\] = 1; needed a table"),
        ("data = [[1]]", r"data\[0\] = \[1\]; needed a table"),
        ('[[data]]\npath = "a.npz"\nsplit = ["train"]', "split = .*needed one of train, test, pool"),
        (DATA.format("a.csv") + 'label_map = ["x"]', r"label_map = \['x'\]; needed table"),
        (DATA.format("a.csv") + "label_map = { a = 1 }", "label_map holds 1; needed text alone"),
        (DATA.format("a.csv") + "split_map = { a = [1] }", r"split_map holds \[1\]; needed text alone"),
        (DATA.format("a.csv") + "metadata = [1, 2]", "metadata holds 1; needed text alone"),
        (DATA.format("a.csv") + 'columns = ["a", ["b"]]', r"columns holds \['b'\]; needed text alone"),
        (DATA.format("a.csv") + "exif = 1", "exif = 1; needed true or false"),
        (DATA.format("a.npz") + 'shape = ["a"]', "shape holds 'a'; needed whole numbers alone"),
        (DATA.format("a.npz") + "shape = 3", r"shape = 3; needed list"),
        (DATA.format("a.csv") + "path = 3", "Cannot overwrite|needed text"),
    ],
)
def test_wrong_kinds_of_values_are_one_sentence(tmp_path, data, message):
    (tmp_path / "a.csv").write_text("path,label\na.png,cat\n")
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 4)), y=[0, 1])
    with pytest.raises(HardlookError, match=message):
        open_sources(audit_of(tmp_path, data))


def test_a_huge_picture_is_named_and_pillows_warning_is_not_printed(tmp_path):
    (tmp_path / "a.png").write_bytes(png(size=(40, 30)))
    (tmp_path / "b.png").write_bytes(png())
    (tmp_path / "data.csv").write_text("path,label\na.png,cat\nb.png,dog\n")
    audit_of(tmp_path, DATA.format("data.csv"))
    code = (
        "from PIL import Image; Image.MAX_IMAGE_PIXELS = {}\nfrom scoring.audit import Audit\n"
        "from scoring.data.ingest import ingest\nfound = ingest(Audit.open('.'))\nprint(found.notes, found.problems)"
    )

    def run(limit):
        return subprocess.run(
            [sys.executable, "-c", code.format(limit)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path)},
            check=True,
        )

    warned = run(1000)
    assert (
        warned.stderr == ""
        and "1 images have more pixels than Pillow's safety limit, the first 'a.png'" in warned.stdout
    )
    (tmp_path / "a.png").write_bytes(png(1, size=(41, 30)))
    refused = run(100)
    assert refused.stderr == "" and "'example_id': 'a.png', 'problem': 'too large when decoded" in refused.stdout


def test_suggested_classes_are_in_the_order_of_the_datas_own_library(tmp_path):
    datasets = pytest.importorskip("datasets")
    for name in ("1", "2", "10"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "a.png").write_bytes(png(int(name)))
    texts = {"text": list("abc"), "label": ["10", "2", "1"]}
    datasets.Dataset.from_dict(texts).save_to_disk(tmp_path / "saved")
    (tmp_path / "data.csv").write_text("text,label\na,10\nb,2\nc,1\n")
    encoded = datasets.Dataset.from_dict(texts).class_encode_column("label").features["label"].names
    for path, media, order, how in (
        ("images", "image", sorted(["1", "2", "10"]), "sorted as text, as torchvision's ImageFolder"),
        ("saved", "text", encoded, "sorted as text"),
        ("data.csv", "text", [str(n) for n in range(1, 11)], "sorted as numbers"),
    ):
        with pytest.raises(HardlookError) as error:
            ingest(audit_of(tmp_path, DATA.format(path), (), media))
        assert f"classes = {json.dumps(order)}\nHere they are {how}" in str(error.value)


def test_labels_counted_from_one_whose_classes_are_names_get_a_label_map(tmp_path):
    (tmp_path / "data.csv").write_text("text,label\na,1\nb,2\n")
    with pytest.raises(HardlookError, match='label_map = { "1" = "World", "2" = "Sports" }'):
        ingest(audit_of(tmp_path, DATA.format("data.csv"), ["World", "Sports"], "text"))
    audit = audit_of(
        tmp_path, DATA.format("data.csv") + 'label_map = { "1" = "World", "2" = "Sports" }', ["World", "Sports"], "text"
    )
    ingest(audit)
    assert read_examples(audit)["label"].tolist() == ["World", "Sports"]
