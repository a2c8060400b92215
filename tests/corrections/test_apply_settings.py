"""A dataset is corrected under the settings under which it was read, and labels are written as its column has them."""

from __future__ import annotations

import json
import unicodedata
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.corrections.apply import apply_to, undo
from scoring.corrections.apply.audit_table import find_audit
from scoring.corrections.apply.targets import open_target
from scoring.data.examples import read_examples
from scoring.data.ingest import ingest

from ..conftest import hardlook
from .test_apply import content, files, outcomes, patch


def pictures(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), 10 * number, np.uint8)).save(root / name)


def audit_of(root: Path, table: str, classes: str = '["cat", "dog"]', media: str = "image") -> Audit:
    (root / "audit.toml").write_text(f'format = 1\nmedia = "{media}"\nclasses = {classes}\n[[data]]\n{table}\n')
    audit = Audit.open(root)
    ingest(audit)
    return audit


def relabel(audit: Audit, *changes: tuple[str, str]) -> Path:
    """A patch of (example_id, new label) as an export writes it, from what the audit has read."""
    rows = read_examples(audit).set_index("example_id")
    made = audit.exports_folder / "patch-train.csv"
    made.parent.mkdir(exist_ok=True)
    patch(made, *((own, b"", rows.loc[own, "label"], new, "relabel") for own, new in changes))
    frame = pd.read_csv(made, dtype=str, keep_default_na=False)
    frame["fingerprint"] = [rows.loc[own, "fingerprint"] for own, _ in changes]
    frame.to_csv(made, index=False)
    return made


def labels_read(audit: Audit) -> dict[str, str]:
    ingest(audit)
    return dict(read_examples(audit)[["example_id", "label"]].itertuples(index=False))


@pytest.mark.parametrize("named", [True, False])
def test_a_manifest_is_read_with_delimiter_encoding_columns_and_label_map_of_its_audit(tmp_path, capsys, named):
    pictures(tmp_path, "ä.png", "b.png")
    (tmp_path / "train.csv").write_bytes("ä.png;miau;größe\nb.png;wuff;x\n".encode("latin-1"))
    settings = 'delimiter = ";"\nencoding = "latin-1"\ncolumns = ["path", "label", "note"]'
    table = f'path = "train.csv"\nsplit = "train"\n{settings}\nlabel_map = {{ miau = "cat", wuff = "dog" }}'
    audit = audit_of(tmp_path, table)
    made = relabel(audit, ("ä.png", "dog"))
    assert hardlook("apply", made, tmp_path / "train.csv", *(("--audit", tmp_path) if named else ())) == 0
    assert "1 relabelled" in capsys.readouterr().out
    assert (tmp_path / "train.csv").read_bytes().decode("latin-1") == "ä.png;wuff;größe\nb.png;wuff;x\n"
    assert labels_read(audit) == {"ä.png": "dog", "b.png": "dog"}
    assert hardlook("apply", "--undo", tmp_path / "train.csv") == 0
    assert labels_read(audit) == {"ä.png": "cat", "b.png": "dog"}


def test_a_copy_of_the_manifest_elsewhere_is_read_under_the_same_settings(tmp_path):
    pictures(tmp_path / "a", "1.png", "2.png")
    (tmp_path / "a/train.csv").write_text("path|label\n1.png|cat\n2.png|dog\n")
    audit = audit_of(tmp_path / "a", 'path = "train.csv"\nsplit = "train"\ndelimiter = "|"')
    pictures(tmp_path / "copy", "1.png", "2.png")
    copy = tmp_path / "copy/train.csv"
    copy.write_text("path|label\n1.png|cat\n2.png|dog\n")
    made = relabel(audit, ("1.png", "dog"))
    assert find_audit(made, data=copy) is None
    assert outcomes(apply_to(made, open_target(copy, audit=audit))) == {"1.png": "relabelled"}
    assert copy.read_text() == "path|label\n1.png|dog\n2.png|dog\n"


KINDS = {
    "floats": (pa.array([0.0, 0.0, 1.0]), 1.0),
    "floats of which one class is missing": (pa.array([0.0, 0.0, 0.0]), 1.0),
    "half floats": (pa.array(np.array([0, 0, 1], np.float16)), 1.0),
    "bytes": (pa.array([0, 0, 1], pa.uint8()), 1),
    "booleans": (pa.array([False, False, True]), True),
    "booleans of which one is missing": (pa.array([False, False, False]), True),
    "categories": (pa.array(["cat", "cat", "dog"]).dictionary_encode(), "dog"),
    "categories without the class": (pa.array(["cat", "cat", "cat"]).dictionary_encode(), "dog"),
    "ordered categories of few bits": (
        pa.DictionaryArray.from_arrays(pa.array([1, 1, 0], pa.int8()), pa.array(["dog", "cat"]), ordered=True),
        "dog",
    ),
    "large text": (pa.array(["cat", "cat", "dog"], pa.large_string()), "dog"),
    "numbers as text": (pa.array(["0.0", "0.0", "0.0"]), "1.0"),
    "lists of one": (pa.array([[0], [0], [1]]), [1]),
    "decimals": (pa.array([Decimal(0), Decimal(0), Decimal(1)], pa.decimal128(4, 1)), Decimal("1.0")),
    "numbers with gaps": (pa.array([0.0, None, 1.0]), 1.0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_parquet_keeps_the_kind_of_its_labels(tmp_path, kind):
    column, expected = KINDS[kind]
    names = ["1.png", "2.png", "3.png"]
    pictures(tmp_path, *names)
    before = pa.table({"path": names, "label": column, "n": [1, None, 3]})
    pq.write_table(before, tmp_path / "train.parquet", compression="gzip")
    before = pq.read_table(tmp_path / "train.parquet")
    audit = audit_of(tmp_path, 'path = "train.parquet"\nsplit = "train"')
    target = open_target(tmp_path / "train.parquet", audit=audit)
    assert outcomes(apply_to(relabel(audit, ("1.png", "dog")), target)) == {"1.png": "relabelled"}
    after = pq.ParquetFile(tmp_path / "train.parquet")
    assert after.schema_arrow.equals(before.schema, check_metadata=True)
    assert after.metadata.row_group(0).column(0).compression == "GZIP"
    found = after.read()
    assert found["label"].to_pylist() == [expected, *column.to_pylist()[1:]]
    assert found.drop_columns("label").equals(before.drop_columns("label"))
    assert labels_read(audit)["1.png"] == "dog"
    undo(open_target(tmp_path / "train.parquet"))
    assert labels_read(audit)["1.png"] == "cat"


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view(), pa.list_(pa.string_view())], ids=str)
@pytest.mark.parametrize("gone", [[0], [3], [1, 2], [0, 1, 2, 3]])
def test_rows_leave_a_parquet_whatever_its_other_columns_hold(tmp_path, kind, gone):
    cells = [["w"], ["x"], ["y"], ["z"]] if pa.types.is_list(kind) else list("wxyz")
    texts = pa.array(["one", "two", "three", "four"])
    table = pa.table({"text": texts, "label": pa.array(["cat"] * 4), "more": pa.array(cells).cast(kind)})
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=2)
    rows = [(str(at), texts[at].as_py().encode(), "cat", None, "exclude") for at in gone]
    report = apply_to(patch(tmp_path / "p.csv", *rows), open_target(tmp_path / "m.parquet", ["cat"], "text"))
    assert report["outcome"].tolist() == ["excluded"] * len(gone)
    left = pq.read_table(tmp_path / "m.parquet")
    assert left.schema.field("more").type == kind
    assert left.to_pylist() == [row for at, row in enumerate(table.to_pylist()) if at not in gone]


@pytest.mark.parametrize(
    ("cells", "settings", "expected"),
    [
        (["0.0", "1.0"], "", "1.0"),
        (["0", "0"], "", "1"),
        (["FALSE", "FALSE"], 'label_map = { FALSE = "cat", TRUE = "dog" }', "TRUE"),
        (["1", "2"], 'label_map = { "1" = "cat", "2" = "dog" }', "2"),
        (["1", "1"], 'label_map = { "1" = "cat", "2" = "dog" }', "2"),
        (["kitty", "dog"], 'label_map = { kitty = "cat", hound = "dog" }', "dog"),
        (["kitty", "hound"], 'label_map = { kitty = "cat", hound = "dog" }', "hound"),
        (["cat", " dog "], "", " dog "),
        (["cat", ""], "", "dog"),
    ],
)
def test_a_csv_writes_a_class_as_its_other_rows_do(tmp_path, cells, settings, expected):
    pictures(tmp_path, "1.png", "2.png")
    text = "".join(f"{number}.png,{cell}\n" for number, cell in enumerate(cells, 1))
    (tmp_path / "train.csv").write_text(f"path,label\n{text}")
    audit = audit_of(tmp_path, f'path = "train.csv"\nsplit = "train"\n{settings}')
    apply_to(relabel(audit, ("1.png", "dog")), open_target(tmp_path / "train.csv", audit=audit))
    assert (tmp_path / "train.csv").read_text() == f"path,label\n1.png,{expected}\n2.png,{cells[1]}\n"
    assert labels_read(audit)["1.png"] == "dog"


def test_a_class_label_gets_the_index_of_its_own_names_whatever_the_order_of_classes(tmp_path):
    pictures(tmp_path, "1.png", "2.png")
    told = {"info": {"features": {"label": {"names": ["dog", "cat", "eel"], "_type": "ClassLabel"}}}}
    table = pa.table({"path": ["1.png", "2.png"], "label": pa.array([1, 0])})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(told)}), tmp_path / "train.parquet")
    audit = audit_of(tmp_path, 'path = "train.parquet"\nsplit = "train"', '["cat", "dog", "eel", "fox"]')
    made = relabel(audit, ("1.png", "eel"), ("2.png", "fox"))
    report = apply_to(made, open_target(tmp_path / "train.parquet", audit=audit))
    assert outcomes(report) == {"1.png": "relabelled", "2.png": "refused"}
    assert "class 'fox'" in report["reason"][1] and "ClassLabel" in report["reason"][1]
    assert pq.read_table(tmp_path / "train.parquet")["label"].to_pylist() == [2, 0]
    assert labels_read(audit) == {"1.png": "eel", "2.png": "dog"}


def test_a_table_with_one_column_per_class_moves_its_1(tmp_path):
    pictures(tmp_path, "1.png", "2.png")
    (tmp_path / "_classes.csv").write_text("filename,cat,dog\n1.png,1,0\n2.png,0,1\n")
    audit = audit_of(tmp_path, 'path = "_classes.csv"\nsplit = "train"')
    apply_to(relabel(audit, ("1.png", "dog")), open_target(tmp_path / "_classes.csv", audit=audit))
    assert (tmp_path / "_classes.csv").read_text() == "filename,cat,dog\n1.png,0,1\n2.png,0,1\n"


def test_a_long_text_and_cells_of_several_lines_stay_what_they_are(tmp_path):
    long = "word " * 40_000
    (tmp_path / "train.csv").write_text(f'text,label\n"{long}",cat\n"two\nlines, ""quoted""",cat\nshort,dog\n')
    audit = audit_of(tmp_path, 'path = "train.csv"\nsplit = "train"', media="text")
    own = read_examples(audit)["example_id"][1]
    apply_to(relabel(audit, (own, "dog")), open_target(tmp_path / "train.csv", audit=audit))
    found = pd.read_csv(tmp_path / "train.csv")
    assert found["text"].tolist() == [long, 'two\nlines, "quoted"', "short"]
    assert found["label"].tolist() == ["cat", "dog", "dog"]


@pytest.mark.parametrize("given", [True, False])
def test_each_row_of_a_path_that_is_listed_twice_is_corrected_by_its_own_decision(tmp_path, given):
    pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "train.csv").write_text("path,label\na.png,cat\nb.png,cat\na.png,dog\n./a.png,cat\n")
    audit = audit_of(tmp_path, 'path = "train.csv"\nsplit = "train"')
    made = relabel(audit, ("train:a.png#2", "dog"), ("train:a.png", "cat"))
    report = apply_to(made, open_target(tmp_path / "train.csv", ["cat", "dog"], audit=audit if given else None))
    assert set(report["outcome"]) == {"relabelled"}
    assert (tmp_path / "train.csv").read_text() == "path,label\na.png,cat\nb.png,cat\na.png,cat\n./a.png,dog\n"


def test_rows_of_equal_content_that_have_no_names_are_told_by_their_order_in_the_audit(tmp_path):
    table = pa.table({"bytes": [content("same")] * 2 + [content("other")], "label": ["cat", "cat", "cat"]})
    for name in ("1", "2"):
        pictures(tmp_path, f"{name}.png")
    data = (tmp_path / "1.png").read_bytes()
    pq.write_table(table.set_column(0, "bytes", pa.array([data, data, data])), tmp_path / "train.parquet")
    audit = audit_of(tmp_path, 'path = "train.parquet"\nsplit = "train"')
    ids = read_examples(audit)["example_id"].tolist()
    made = relabel(audit, (ids[1], "dog"))
    assert set(outcomes(apply_to(made, open_target(tmp_path / "train.parquet", audit=audit))).values()) == {
        "relabelled"
    }
    assert pq.read_table(tmp_path / "train.parquet")["label"].to_pylist() == ["cat", "dog", "cat"]


@pytest.mark.parametrize("disk", ["NFC", "NFD"])
@pytest.mark.parametrize("said", ["NFC", "NFD"])
def test_accents_may_be_composed_or_not_in_names_and_classes(tmp_path, disk, said):
    def form(text: str, which: str) -> str:
        return unicodedata.normalize(which, text)

    root = tmp_path / "pictures"
    for name in ("déjà/é.png", "zoë/ü.png"):
        (root / form(name, disk)).parent.mkdir(parents=True)
        (root / form(name, disk)).write_bytes(content(name))
    rows = (
        (form("pictures/déjà/é.png", said), content("déjà/é.png"), form("déjà", said), form("zoë", said), "relabel"),
        (form("pictures/zoë/ü.png", said), content("zoë/ü.png"), form("zoë", said), None, "exclude"),
    )
    classes = [form("déjà", said), form("zoë", said)]
    report = apply_to(patch(tmp_path / "p.csv", *rows), open_target(root, classes))
    assert report["outcome"].tolist() == ["relabelled", "excluded"]
    assert set(files(root)) == {form("zoë/é.png", disk)}, "no second folder of the same class"
    again = apply_to(patch(tmp_path / "p.csv", *rows), open_target(root, classes))
    assert again["outcome"].tolist() == ["relabelled", "excluded"]
    assert undo(open_target(root)) == [] and len(files(root)) == 2


def test_numbered_files_that_all_clash_get_numbers_and_their_old_names_back(tmp_path):
    root = tmp_path / "pictures"
    for folder in ("cat", "dog", "eel"):
        for number in range(3):
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / f"{folder}/{number}.png").write_bytes(content(f"{folder}{number}"))
    before = files(root)
    rows = [
        (f"{folder}/{number}.png", content(f"{folder}{number}"), folder, "eel", "relabel")
        for folder in ("cat", "dog")
        for number in range(3)
    ]
    report = apply_to(patch(tmp_path / "p.csv", *rows), open_target(root))
    assert set(report["outcome"]) == {"relabelled"}
    assert sorted(files(root).values()) == sorted(before.values()), "nothing is lost"
    names = {f"eel/{number}{more}.png" for number in range(3) for more in ("", "-2", "-3")}
    assert set(files(root)) == names
    assert undo(open_target(root)) == [] and files(root) == before


def test_a_relative_link_that_would_break_is_refused_and_a_good_one_moves(tmp_path):
    root = tmp_path / "pictures"
    (root / "cat/deep").mkdir(parents=True)
    (tmp_path / "store.png").write_bytes(content("store"))
    (root / "cat/1.png").symlink_to("../../store.png")
    (root / "cat/2.png").symlink_to(tmp_path / "store.png")
    rows = [(f"cat/{number}.png", content("store"), "cat", "big/dog", "relabel") for number in (1, 2)]
    report = apply_to(patch(tmp_path / "p.csv", *rows), open_target(root))
    assert outcomes(report) == {"cat/1.png": "refused", "cat/2.png": "relabelled"}
    assert "would lead elsewhere" in report["reason"][0]
    assert (root / "cat/1.png").read_bytes() == (root / "big/dog/2.png").read_bytes() == content("store")


def test_a_column_of_numbers_needs_classes_and_says_so(tmp_path):
    pictures(tmp_path, "1.png")
    pq.write_table(pa.table({"path": ["1.png"], "label": [1.5]}), tmp_path / "m.parquet")
    made = patch(tmp_path / "p.csv", ("1.png", (tmp_path / "1.png").read_bytes(), "1.5", "dog", "relabel"))
    with pytest.raises(HardlookError, match=r"are numbers \(double\); give the class names in order with --classes"):
        apply_to(made, open_target(tmp_path / "m.parquet"))


def test_a_pool_is_corrected_once_though_nobody_knows_its_labels_before(tmp_path):
    pictures(tmp_path, "1.png", "2.png")
    (tmp_path / "pool.csv").write_text("path,label\n1.png,\n2.png,\n")
    audit = audit_of(tmp_path, 'path = "pool.csv"\nsplit = "pool"')
    rows = read_examples(audit).set_index("example_id")
    made = patch(tmp_path / "p.csv", ("1.png", (tmp_path / "1.png").read_bytes(), None, "dog", "relabel"))
    assert rows.loc["1.png", "label"] is None or pd.isna(rows.loc["1.png", "label"])
    for _ in range(2):
        target = open_target(tmp_path / "pool.csv", audit=audit)
        assert apply_to(made, target)["outcome"].tolist() == ["relabelled"]
        assert (tmp_path / "pool.csv").read_text() == "path,label\n1.png,dog\n2.png,\n"
        assert target.applications == 1


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_label_map_renames_receives_the_files_of_its_class(tmp_path, there):
    pictures(tmp_path, "train/n01/1.png", "train/n01/2.png", *(["train/n02/3.png"] if there else []))
    audit = audit_of(tmp_path, 'path = "train"\nsplit = "train"\nlabel_map = { n01 = "cat", n02 = "dog" }')
    apply_to(relabel(audit, ("train/n01/1.png", "dog")), open_target(tmp_path / "train", audit=audit))
    assert (tmp_path / "train/n02/1.png").is_file() and not (tmp_path / "train/dog").exists()
    assert labels_read(audit)["train/n01/1.png"] == "dog"


def test_a_manifest_finds_its_files_whichever_way_their_accents_are_composed(tmp_path):
    pictures(tmp_path, unicodedata.normalize("NFD", "é.png"), "ü.png")
    (tmp_path / "train.csv").write_text("path,label\né.png,cat\n" + unicodedata.normalize("NFD", "ü.png,dog\n"))
    audit = audit_of(tmp_path, 'path = "train.csv"\nsplit = "train"')
    rows = read_examples(audit)
    assert rows["problem"].isna().all()
    made = relabel(audit, *((own, "dog") for own in rows["example_id"]))
    apply_to(made, open_target(tmp_path / "train.csv", audit=audit))
    assert pd.read_csv(tmp_path / "train.csv")["label"].tolist() == ["dog", "dog"]
