"""scoring.data.adapters.manifest: CSV, TSV and Parquet tables of paths, bytes, texts and numbers."""

import io
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.data.adapters import open_sources
from scoring.data.adapters.manifest import read_text_table


def source_of(root, data, classes=("cat", "dog"), media="image"):
    (root / "audit.toml").write_text(
        f"format = 1\nmedia = {media!r}\nclasses = {list(classes)}\n[[data]]\n{data}\n", encoding="utf8"
    )
    return open_sources(Audit.open(root))[0]


def png(colour=0):
    buffer = io.BytesIO()
    Image.new("L", (4, 3), colour).save(buffer, "PNG")
    return buffer.getvalue()


def write(path, text, encoding="utf8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)


def test_paths_start_at_the_manifests_folder(tmp_path):
    write(tmp_path / "lists/train.csv", "path,label\nimages/a.png,cat\n./images/b.png,dog\n")
    listing = source_of(tmp_path, 'path = "lists/train.csv"\nsplit = "train"').listing()
    assert listing.paths == [str(tmp_path / "lists/images/a.png"), str(tmp_path / "lists/images/b.png")]
    assert listing.names == ["images/a.png", "images/b.png"]
    assert listing.labels == ["cat", "dog"]


def test_paths_can_start_elsewhere(tmp_path):
    write(tmp_path / "train.csv", "path,label\na.png,cat\n")
    listing = source_of(tmp_path, 'path = "train.csv"\nsplit = "train"\nfolder = "images"').listing()
    assert listing.paths == [str(tmp_path / "images/a.png")]


def test_cells_stay_the_text_that_they_are(tmp_path):
    write(tmp_path / "train.csv", 'path,label,example_id\na.png,NA,007\nb.png,null,1e3\nc.png,None,"x,""y""\nz"\n')
    listing = source_of(tmp_path, 'path = "train.csv"\nsplit = "train"', classes=["NA", "null", "None"]).listing()
    assert listing.labels == ["NA", "null", "None"]
    assert listing.ids == ["007", "1e3", 'x,"y"\nz']


def test_metadata_columns_of_numbers_become_numbers(tmp_path):
    write(
        tmp_path / "train.csv",
        "path,label,age,weight,code,place,empty\na.png,cat,3,1.5,007,Rome,\nb.png,dog,,2,008,,\n",
    )
    metadata = source_of(tmp_path, 'path = "train.csv"\nsplit = "train"').listing().metadata
    assert {name: column.to_pylist() for name, column in metadata.items()} == {
        "age": [3, None],
        "weight": [1.5, 2.0],
        "code": ["007", "008"],
        "place": ["Rome", ""],
        "empty": ["", ""],
    }


def test_large_whole_numbers_keep_every_digit(tmp_path):
    write(tmp_path / "train.csv", f"path,label,number\na.png,cat,{2**62 + 1}\nb.png,cat,\n")
    metadata = source_of(tmp_path, 'path = "train.csv"\nsplit = "train"').listing().metadata
    assert metadata["number"].to_pylist() == [2**62 + 1, None]


def test_metadata_can_be_chosen_or_left_out(tmp_path):
    write(tmp_path / "train.csv", "path,label,age,place\na.png,cat,3,Rome\n")
    data = 'path = "train.csv"\nsplit = "train"\n'
    assert list(source_of(tmp_path, data + 'metadata = ["place"]').listing().metadata) == ["place"]
    assert not source_of(tmp_path, data + "metadata = []").listing().metadata


def test_the_split_can_be_a_column(tmp_path):
    write(tmp_path / "all.csv", "path,label,set\na.png,cat,Train\nb.png,dog,val\nc.png,whatever,pool\n")
    listing = source_of(tmp_path, 'path = "all.csv"\nsplit_column = "set"\nsplit_map = { val = "test" }').listing()
    assert listing.splits == ["train", "test", "pool"]
    assert listing.labels == ["cat", "dog", None]
    with pytest.raises(HardlookError, match="row 1 has split 'val'.*split_map"):
        source_of(tmp_path, 'path = "all.csv"\nsplit_column = "set"').listing()


def test_the_labels_of_a_pool_are_neither_labels_nor_metadata(tmp_path):
    write(tmp_path / "pool.csv", "path,label\na.png,cat\n")
    listing = source_of(tmp_path, 'path = "pool.csv"\nsplit = "pool"').listing()
    assert listing.labels is None and not listing.metadata


def test_empty_cells_and_addresses_are_problems_of_that_row(tmp_path):
    write(tmp_path / "train.csv", "path,label\n,cat\nhttps://example.org/a.png,dog\n")
    listing = source_of(tmp_path, 'path = "train.csv"\nsplit = "train"').listing()
    assert listing.problems == {
        0: "column 'path' is empty",
        1: "https://example.org/a.png is a URL, not a file; download it first",
    }


def test_tabs_semicolons_byte_order_marks_and_old_encodings(tmp_path):
    write(tmp_path / "a.tsv", "path\tlabel\na.png\tcat\n")
    assert source_of(tmp_path, 'path = "a.tsv"\nsplit = "train"').listing().labels == ["cat"]
    write(tmp_path / "a.csv", "path;label\na.png;Katze ü\n", "utf-8-sig")
    assert source_of(tmp_path, 'path = "a.csv"\nsplit = "train"\ndelimiter = ";"').listing().labels == ["Katze ü"]
    write(tmp_path / "a.csv", "path,label\na.png,Katze ü\n", "latin-1")
    with pytest.raises(HardlookError, match="latin-1"):
        source_of(tmp_path, 'path = "a.csv"\nsplit = "train"').listing()
    listing = source_of(tmp_path, 'path = "a.csv"\nsplit = "train"\nencoding = "latin-1"').listing()
    assert listing.labels == ["Katze ü"]


def test_a_table_without_header_gets_its_columns_named(tmp_path):
    write(tmp_path / "a.csv", '"1","A title","Some, text"\n"2","Other",""\n', "utf-8-sig")
    source = source_of(
        tmp_path,
        'path = "a.csv"\nsplit = "test"\ncolumns = ["label", "title", "body"]\n'
        'text_column = ["title", "body"]\nlabel_map = { 1 = "cat", 2 = "dog" }',
        media="text",
    )
    assert source.listing().labels == ["1", "2"]
    assert source.original(0, None) == "A title\nSome, text"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.png,cat,extra\n", "Expected 2 columns, got 3"),
        ("path,label\na.png\n", "Expected 2 columns"),
        ("", "no header"),
        ("a,a\n1,2\n", "no header of unique names"),
    ],
)
def test_ragged_tables_are_errors_not_guesses(tmp_path, text, message):
    write(tmp_path / "a.csv", text)
    with pytest.raises(HardlookError, match=message):
        read_text_table(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('label_column = "lable"', "no such column; did you mean label"),
        ('image_column = "x"', "no such column"),
        ('metadata = ["x"]', "no column 'x'"),
    ],
)
def test_a_column_that_is_not_there_lists_those_that_are(tmp_path, data, message):
    write(tmp_path / "a.csv", "path,label\na.png,cat\n")
    with pytest.raises(HardlookError, match=message):
        source_of(tmp_path, f'path = "a.csv"\nsplit = "train"\n{data}').listing()


def test_a_manifest_without_pictures_says_what_it_needs(tmp_path):
    write(tmp_path / "a.csv", "photo,label\na.png,cat\n")
    with pytest.raises(HardlookError, match="needs image_column.*photo, label"):
        source_of(tmp_path, 'path = "a.csv"\nsplit = "train"').listing()


# ---------------------------------------------------------------------------------------------------- parquet


def test_parquet_holds_bytes_read_one_row_group_at_a_time(tmp_path):
    table = pa.table({"image": [png(n) for n in range(10)], "label": [0, 1] * 5, "age": range(10)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    source = source_of(tmp_path, 'path = "a.parquet"\nsplit = "train"')
    listing = source.listing()
    assert listing.labels == [0, 1] * 5 and listing.paths is None
    assert [source.original(row, None).getpixel((0, 0)) for row in (9, 0, 4, 3, 8)] == [9, 0, 4, 3, 8]
    assert len(source._held) == 3
    assert list(listing.metadata) == ["age"]


def test_parquet_holds_paths_lists_and_categories(tmp_path):
    table = pa.table(
        {
            "path": ["a.png", None],
            "label": pa.array(["cat", "dog"]).dictionary_encode(),
            "boxes": [[1, 2], []],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    listing = source_of(tmp_path, 'path = "a.parquet"\nsplit = "train"').listing()
    assert listing.labels == ["cat", "dog"]
    assert listing.problems == {1: "column 'path' is empty"}


def test_parquet_as_hugging_face_writes_images(tmp_path):
    (tmp_path / "b.png").write_bytes(png(2))
    rows = [{"bytes": png(1), "path": None}, {"bytes": None, "path": "b.png"}, None]
    pq.write_table(pa.table({"image": rows, "label": [0, 1, 1]}), tmp_path / "a.parquet")
    source = source_of(tmp_path, 'path = "a.parquet"\nsplit = "train"')
    source.listing()
    assert [source.original(row, None).getpixel((0, 0)) for row in (0, 1)] == [1, 2]
    with pytest.raises(HardlookError, match="row 2 has no image"):
        source.original(2, None)


def test_a_broken_parquet_file_is_one_clear_error(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(HardlookError, match="not a Parquet file"):
        source_of(tmp_path, 'path = "a.parquet"\nsplit = "train"').listing()


# ---------------------------------------------------------------------------------------------------- vectors


def test_rows_of_numbers_are_vectors_with_named_columns(tmp_path):
    write(tmp_path / "a.csv", "example_id,length,width,label,colour\n1,2.5,1,cat,red\n2,,4,dog,blue\n")
    source = source_of(tmp_path, 'path = "a.csv"\nsplit = "train"', media="vector")
    listing = source.listing()
    assert listing.columns == ["length", "width"]
    assert list(listing.metadata) == ["colour"]
    assert source.original(0, None).dtype == np.float32
    assert source.original(0, None).tolist() == [2.5, 1]
    assert math.isnan(source.original(1, None)[0])


def test_input_columns_choose_the_numbers_and_their_order(tmp_path):
    write(tmp_path / "a.csv", "a,b,c,label\n1,2,3,cat\n")
    source = source_of(tmp_path, 'path = "a.csv"\nsplit = "train"\ninput_columns = ["c", "a"]', media="vector")
    assert source.original(0, None).tolist() == [3, 1]
    assert list(source.listing().metadata) == ["b"]
    with pytest.raises(HardlookError, match="needs input_columns"):
        source_of(tmp_path, 'path = "a.csv"\nsplit = "train"\ninput_columns = ["d"]', media="vector").listing()
