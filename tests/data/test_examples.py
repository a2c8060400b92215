"""scoring.data.examples: reading originals for a model, images for a page, verified labels, duplicates."""

import io
import json
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.data.examples import (
    Originals,
    duplicates,
    input_columns,
    original_picture,
    original_text,
    original_vector,
    read_examples,
    truth,
)
from scoring.data.ingest import ingest


def audit_of(root, *data, classes=("cat", "dog"), media="image", more=""):
    tables = "".join(f"[[data]]\n{lines}\n" for lines in data)
    root.mkdir(exist_ok=True, parents=True)
    (root / "audit.toml").write_text(f"format = 1\nmedia = {media!r}\nclasses = {json.dumps(classes)}\n{tables}{more}")
    return Audit.open(root)


def save(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or Image.new("L", (4, 3))).save(path, **options)
    return path


def shown(audit, row=0):
    data, kind = original_picture(audit, read_examples(audit).iloc[row])
    image = Image.open(io.BytesIO(data))
    image.load()
    return image, kind


# ------------------------------------------------------------------------------------------------ for a model


def test_the_table_says_which_file_a_row_was(tmp_path):
    save(tmp_path / "train/cat/b.png", Image.new("L", (2, 2), 2))
    audit = audit_of(tmp_path, 'path = "train"\nsplit = "train"')
    ingest(audit)
    save(tmp_path / "train/cat/a.png", Image.new("L", (2, 2), 1))
    assert Originals(audit).read(0, 0).getpixel((0, 0)) == 2, "a.png came later and shifts nothing"


def test_originals_travel_to_worker_processes(tmp_path):
    for number in range(3):
        save(tmp_path / f"train/cat/{number}.png", Image.new("L", (2, 2), number))
    audit = audit_of(tmp_path, 'path = "train"\nsplit = "train"')
    ingest(audit)
    originals = Originals(audit)
    originals.read(0, 0)
    copy = pickle.loads(pickle.dumps(originals))
    assert [copy.read(0, row).getpixel((0, 0)) for row in range(3)] == [0, 1, 2]
    assert copy.label(0, 2) == "cat"


def test_originals_of_arrays_files_and_pools(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(24, dtype=np.uint16).reshape(2, 3, 4), y=[1, 0])
    save(tmp_path / "pool/a.jpg", Image.new("CMYK", (5, 5)))
    audit = audit_of(tmp_path, 'path = "a.npz"\nsplit = "train"', 'path = "pool"\nsplit = "pool"')
    ingest(audit)
    originals = Originals(audit)
    assert originals.read(0, 1).tolist() == np.arange(12, 24).reshape(3, 4).tolist()
    assert originals.read(np.int32(1), np.int64(0)).mode == "CMYK"
    assert (originals.label(0, 0), originals.label(1, 0)) == ("dog", None)


def test_an_original_that_is_gone_raises(tmp_path):
    path = save(tmp_path / "pool/a.png")
    audit = audit_of(tmp_path, 'path = "pool"\nsplit = "pool"')
    ingest(audit)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        Originals(audit).read(0, 0)


def test_before_the_first_ingest_the_error_is_the_command_to_run(tmp_path):
    with pytest.raises(HardlookError, match="run `hardlook score"):
        read_examples(audit_of(tmp_path, 'path = "pool"\nsplit = "pool"'))


# ------------------------------------------------------------------------------------------------- for a page


def test_files_that_browsers_show_are_served_as_they_are(tmp_path):
    path = save(tmp_path / "pool/a.jpg", Image.new("RGB", (600, 400)))
    audit = audit_of(tmp_path, 'path = "pool"\nsplit = "pool"')
    ingest(audit)
    assert original_picture(audit, read_examples(audit).iloc[0]) == (path.read_bytes(), "image/jpeg")


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("a.tif", Image.new("F", (5, 4))),
        ("a.jpg", Image.new("CMYK", (5, 4))),
        ("a.png", Image.new("I;16", (5, 4))),
        ("a.bmp", Image.new("RGB", (5, 4))),
        ("a.gif", Image.new("P", (5, 4))),
        ("a.png", Image.new("1", (5, 4))),
    ],
)
def test_files_of_every_kind_are_shown(tmp_path, name, image):
    save(tmp_path / "pool" / name, image)
    audit = audit_of(tmp_path, 'path = "pool"\nsplit = "pool"')
    assert not ingest(audit).problems
    picture, kind = shown(audit)
    assert picture.size == (5, 4) and kind in ("image/png", "image/gif")


def test_arrays_are_shown_from_what_ingest_kept(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (1, 300, 400, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=values)
    audit = audit_of(tmp_path, 'path = "a.npz"\nsplit = "pool"')
    ingest(audit)
    (tmp_path / "a.npz").unlink()
    assert np.array_equal(np.asarray(shown(audit)[0]), values[0])
    assert max(Image.open(io.BytesIO(audit.thumbnails.get(read_examples(audit)["example_id"][0]))).size) == 256


@pytest.mark.parametrize("shape", [(3, 20, 30), (20, 30, 3), (20, 30), (1, 20, 30)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", "int32"])
def test_arrays_of_every_layout_and_type_are_shown(tmp_path, shape, dtype):
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).normal(100, 30, (2, *shape)).clip(0).astype(dtype))
    audit = audit_of(tmp_path, 'path = "a.npz"\nsplit = "pool"')
    assert not ingest(audit).problems
    assert shown(audit)[0].size == (30, 20)


def test_sixteen_bit_arrays_are_kept_whole_and_shown_windowed(tmp_path):
    values = np.arange(12, dtype=np.uint16).reshape(1, 3, 4) * 100 + 5000
    np.savez(tmp_path / "a.npz", x=values)
    audit = audit_of(tmp_path, 'path = "a.npz"\nsplit = "pool"')
    ingest(audit)
    kept = Image.open(io.BytesIO(audit.originals.get(read_examples(audit)["example_id"][0])))
    assert np.array_equal(np.asarray(kept), values[0])
    assert shown(audit)[0].getextrema() == (0, 255)


def test_npy_files_and_loaders_are_shown_without_running_code(tmp_path):
    (tmp_path / "one").mkdir()
    np.save(tmp_path / "one/a.npy", np.eye(7))
    (tmp_path / "two").mkdir()
    np.eye(9, dtype="u1").tofile(tmp_path / "two/a.raw")
    (tmp_path / "code.py").write_text(
        "import numpy as np\ndef load(path): return np.fromfile(path, 'u1').reshape(9, 9)"
    )
    audit = audit_of(tmp_path, 'path = "one"\nsplit = "pool"', 'path = "two"\nsplit = "pool"\nloader = "code.py:load"')
    ingest(audit)
    (tmp_path / "code.py").write_text("raise SystemExit('the dashboard ran user code')")
    assert [shown(audit, row)[0].size for row in (0, 1)] == [(7, 7), (9, 9)]


def test_bytes_of_a_manifest_are_kept_as_they_are(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    jpeg = save(tmp_path / "x.jpg", Image.new("RGB", (500, 400), "red")).read_bytes()
    pq.write_table(pa.table({"image": [jpeg], "label": ["cat"]}), tmp_path / "a.parquet")
    audit = audit_of(tmp_path, 'path = "a.parquet"\nsplit = "train"')
    ingest(audit)
    assert original_picture(audit, read_examples(audit).iloc[0], audit.originals) == (jpeg, "image/jpeg")


def test_a_picture_that_cannot_be_shown_says_why(tmp_path):
    save(tmp_path / "pool/a.png")
    (tmp_path / "pool/b.png").write_bytes(b"text")
    audit = audit_of(tmp_path, 'path = "pool"\nsplit = "pool"')
    ingest(audit)
    with pytest.raises(HardlookError, match="not an image"):
        shown(audit, 1)
    (tmp_path / "pool/a.png").unlink()
    with pytest.raises(HardlookError, match="'pool/a.png' cannot be read: No such file"):
        shown(audit, 0)


def test_vectors_keep_their_numbers_and_names(tmp_path):
    (tmp_path / "a.csv").write_text("example_id,length,width,label\nx,2.5,-1,cat\ny,,4,dog\n")
    audit = audit_of(tmp_path, 'path = "a.csv"\nsplit = "train"', media="vector")
    found = ingest(audit)
    example = read_examples(audit).iloc[0]
    assert input_columns(audit) == ["length", "width"]
    assert original_vector(audit, example).tolist() == [2.5, -1]
    assert original_picture(audit, example)[1] == "image/png"
    assert found.problems == [{"example_id": "y", "problem": "1 of its values are missing or not finite"}]


def test_texts_are_kept_and_shown_whole(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nüben <b>,cat\n,dog\n", encoding="utf8")
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/a.txt").write_text("from a file", encoding="utf8")
    audit = audit_of(tmp_path, 'path = "a.csv"\nsplit = "train"', 'path = "pool"\nsplit = "pool"', media="text")
    found = ingest(audit)
    examples = read_examples(audit)
    assert original_text(audit, examples.iloc[0]) == "üben <b>"
    assert original_picture(audit, examples.iloc[2]) == (b"from a file", "text/plain; charset=utf-8")
    assert Originals(audit).read(1, 0) == "from a file"
    assert [problem["problem"] for problem in found.problems] == ["contains '' instead of text"]


def test_a_page_never_imports_what_the_audit_names(tmp_path):
    save(tmp_path / "pool/a.png")
    audit = audit_of(tmp_path, 'path = "pool"\nsplit = "pool"')
    ingest(audit)
    code = (
        "import sys; from scoring.audit import Audit; from scoring.data.examples import original_picture, "
        f"read_examples; a = Audit.open({str(tmp_path)!r}); original_picture(a, read_examples(a).iloc[0]); print([n "
        "for n in ('torch', 'datasets', 'sklearn', 'ray', 'umap') if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# -------------------------------------------------------------------------------------------- verified labels


def truth_of(root, text, more="", name="truth.csv"):
    save(root / "pool/a.png")
    (root / name).write_text(text)
    return truth(audit_of(root, 'path = "pool"\nsplit = "pool"', more=f'[truth]\npath = "{name}"\n{more}'))


def test_verified_labels_are_class_names(tmp_path):
    frame = truth_of(tmp_path, "example_id,true_label\n007,dog\nb,cat\nc,\n")
    assert frame.values.tolist() == [["007", "dog"], ["b", "cat"]]
    assert truth_of(tmp_path, "example_id,true_label\nb,0\nc,1\n")["true_label"].tolist() == ["cat", "dog"]


def test_verified_labels_of_a_class_label_are_its_names(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"example_id": datasets.Value("string"), "true_label": datasets.ClassLabel(names=["dog", "cat"])}
    )
    datasets.Dataset.from_dict({"example_id": ["a", "b"], "true_label": [0, 1]}, features=features).to_parquet(
        str(tmp_path / "truth.parquet")
    )
    save(tmp_path / "pool/a.png")
    audit = audit_of(tmp_path, 'path = "pool"\nsplit = "pool"', more='[truth]\npath = "truth.parquet"\n')
    assert truth(audit)["true_label"].tolist() == ["dog", "cat"]


def test_verified_labels_under_other_column_names(tmp_path):
    frame = truth_of(tmp_path, "name,checked\na,dog\n", 'id_column = "name"\nlabel_column = "checked"\n')
    assert frame.columns.tolist() == ["example_id", "true_label"] and len(frame) == 1


def test_no_verified_labels_is_none(tmp_path):
    assert truth(audit_of(tmp_path, 'path = "pool"\nsplit = "pool"')) is None


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("example_id,true_label\na,bird\n", "", "'bird' is not in classes"),
        ("example_id,true_label\na,cat\nb,1\n", "", "'cat' is the name of a class, but '1' in the same column"),
        ("example_id,true_label\na,cat\na,dog\n", "", "names 'a' more than once"),
        ("id,true_label\na,cat\n", "", "id_column = 'example_id'; available: id, true_label"),
        ("example_id,true_label\n", 'label_column = "tru_label"\n', "did you mean true_label"),
    ],
)
def test_wrong_tables_of_verified_labels_say_what_is_wrong(tmp_path, text, more, message):
    with pytest.raises(HardlookError, match=message):
        truth_of(tmp_path, text, more)


def test_a_missing_table_of_verified_labels_is_an_error(tmp_path):
    with pytest.raises(HardlookError, match="needed a CSV or Parquet"):
        truth(audit_of(tmp_path, 'path = "pool"\nsplit = "pool"', more='[truth]\npath = "nowhere.csv"\n'))


# ------------------------------------------------------------------------------------------------- duplicates


def table(rows):
    return pd.DataFrame(rows, columns=["example_id", "split", "label", "fingerprint", "problem"])


def test_duplicates_that_matter_come_first():
    found = duplicates(
        table(
            [
                ("a", "train", "cat", "many", None),
                ("b", "train", "cat", "many", None),
                ("c", "train", "cat", "many", None),
                ("d", "train", "cat", "leak", None),
                ("e", "test", "cat", "leak", None),
                ("f", "train", "cat", "clash", None),
                ("g", "train", "dog", "clash", None),
                ("h", "train", "cat", "both", None),
                ("i", "test", "dog", "both", None),
                ("j", "pool", None, "pool", None),
                ("k", "train", "dog", "pool", None),
                ("l", "train", "dog", "alone", None),
                ("m", "train", "dog", "broken", "empty"),
                ("n", "train", "dog", "broken", "empty"),
            ]
        )
    )
    assert found["fingerprint"].tolist() == ["both", "clash", "leak", "pool", "many"]
    assert found["conflicting"].tolist() == [True, True, False, False, False]
    assert found["across_splits"].tolist() == [True, False, True, True, False]
    assert found["copies"].tolist() == [2, 2, 2, 2, 3]
    assert found["splits"][0] == "test, train" and found["labels"][0] == "cat, dog"
    assert found["example_ids"][4] == ["a", "b", "c"]


def test_no_duplicates_is_an_empty_table():
    found = duplicates(table([("a", "train", "cat", "x", None)]))
    assert found.empty and "conflicting" in found and int(found["conflicting"].sum()) == 0
    assert duplicates(table([])).empty


def test_many_duplicates_are_no_trouble():
    n = 20_000
    rows = table(
        {
            "example_id": list(map(str, range(n))),
            "split": "train",
            "label": "cat",
            "fingerprint": [str(row // 2) for row in range(n)],
            "problem": None,
        }
    )
    assert len(duplicates(rows)) == n // 2
