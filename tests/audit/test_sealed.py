"""Checksums: whatever was damaged is told before it is parsed, and files without them open as they are."""

import json
import os
import time

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

from scoring.audit.errors import HardlookError
from scoring.audit.sealed import BLOCK, SETTLED, SealedFile, verify
from scoring.audit.sealed_json import json_bytes, json_value
from scoring.audit.storage import (
    BlobStore,
    VectorFile,
    read_json,
    read_metadata,
    read_schema,
    read_table,
    read_vectors,
    vectors_metadata,
    write_json,
    write_table,
    write_vectors,
)

IDS = [f"{at:05d}" for at in range(3000)]
VALUES = np.random.default_rng(0).normal(size=(3000, 40)).astype(np.float32)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, pa.table({"example_id": IDS, "x": VALUES[:, 0], "y": VALUES.reshape(3000, -1)[:, 1]}), {"a": 1})
    return path


@pytest.fixture
def vectors(tmp_path):
    path = tmp_path / "v.arrow"
    write_vectors(path, IDS, VALUES, {"a": [1]})
    return path


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_other_readers_take_a_sealed_file_for_an_ordinary_one(table, vectors):
    assert SealedFile(table).is_sealed and SealedFile(vectors).is_sealed
    wanted = pa.table({"x": VALUES[:, 0]})
    assert pq.read_table(table, columns=["x"]).equals(wanted)
    assert pq.read_schema(table).names == ["example_id", "x", "y"]
    found = duckdb.sql(f"SELECT x FROM read_parquet('{table}')").to_arrow_table()
    assert found["x"].to_pylist() == wanted["x"].to_pylist()
    with pa.OSFile(str(vectors)) as source:
        assert ipc.open_file(source).read_all()["example_id"].to_pylist() == IDS


@pytest.mark.parametrize("rewrite", ["rewritten by another tool", "of an earlier version"])
def test_a_file_without_checksums_opens(table, vectors, rewrite):
    pq.write_table(pq.read_table(table), table)
    with pa.OSFile(str(vectors)) as source:
        plain = ipc.open_file(source).read_all()
    with ipc.new_file(str(vectors), plain.schema) as writer:
        writer.write_table(plain, 1000 if "another" in rewrite else None)
    assert not SealedFile(table).is_sealed and not SealedFile(vectors).is_sealed
    assert read_table(table, ["x"])["x"].to_pylist() == VALUES[:, 0].tolist() and read_metadata(table) == {"a": 1}
    np.testing.assert_array_equal(read_vectors(vectors)[1], VALUES)
    ids, some = read_vectors(vectors, ["00007", "02999", "none"])
    assert ids.tolist() == ["00007", "02999"] and vectors_metadata(vectors) == {"a": [1]}
    np.testing.assert_array_equal(some, VALUES[[7, 2999]])


def test_rows_are_read_from_any_batch_and_none_is_verified_in_vain(vectors):
    file = VectorFile(vectors)
    assert len(file) == 3000 and file.width == 40
    flip(vectors, vectors.stat().st_size // 2)  # beside the rows that are read below
    np.testing.assert_array_equal(VectorFile(vectors).rows(3, 5), VALUES[3:5])
    np.testing.assert_array_equal(VectorFile(vectors).take(np.array([1, 9])), VALUES[[1, 9]])
    with pytest.raises(HardlookError, match=r"v.arrow cannot be read \(its checksum is wrong within the bytes"):
        VectorFile(vectors).rows(0, 3000)
    with pytest.raises(HardlookError, match="checksum"):
        read_vectors(vectors)


@pytest.mark.parametrize("read", [read_table, verify])
def test_each_byte_of_a_sealed_file_counts(tmp_path, read):
    path = tmp_path / "t.parquet"
    write_table(path, pa.table({"example_id": ["a", "b"]}))
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(HardlookError, match="t.parquet cannot be read"):
            read(path) if read is read_table or SealedFile(path).is_sealed else read_table(path)
        path.write_bytes(whole[:at])
        with pytest.raises(HardlookError, match="t.parquet cannot be read"):
            read_table(path)
    path.write_bytes(whole)
    assert read(path) is None or read(path)["example_id"].to_pylist() == ["a", "b"]


def test_all_vectors_are_the_same_read_or_mapped(vectors, monkeypatch):
    read = read_vectors(vectors)[1]
    monkeypatch.setattr("scoring.audit.storage.MOST_READ", 0)
    mapped = read_vectors(vectors)[1]
    np.testing.assert_array_equal(read, mapped)
    np.testing.assert_array_equal(read, VALUES)
    flip(vectors, vectors.stat().st_size // 2)
    with pytest.raises(HardlookError, match="checksum"):
        read_vectors(vectors)


def test_what_was_verified_is_verified_again_when_the_file_changes(table):
    old = time.time_ns() - 2 * SETTLED
    os.utime(table, ns=(old, old))
    verify(table)
    flip(table, 1000)
    with pytest.raises(HardlookError, match="checksum"):
        read_table(table)


def test_a_file_that_changes_within_the_grain_of_the_clock_is_verified_again(table):
    now = time.time_ns()
    os.utime(table, ns=(now, now))
    verify(table)
    flip(table, 1000)
    os.utime(table, ns=(now, now))
    with pytest.raises(HardlookError, match="checksum"):
        verify(table)


def test_a_schema_is_read_though_a_page_of_values_is_damaged_and_the_values_are_not(table):
    flip(table, 1000)
    assert read_schema(table).names == ["example_id", "x", "y"]
    with pytest.raises(HardlookError, match="within the bytes 0 to"):
        read_table(table)


def test_an_open_store_tells_of_a_part_that_is_cut_or_changed_under_it(tmp_path):
    store = BlobStore(tmp_path / "blobs.arrow")
    blobs = {f"{at:03d}": os.urandom(BLOCK // 3) for at in range(20)}
    store.write_part(blobs.items())
    assert all(store.get(name) == data for name, data in blobs.items())
    path = store.folder / "part-00000.arrow"
    whole = path.read_bytes()
    at = whole.index(blobs["010"]) + 5
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert store.get("000") == blobs["000"]  # another block
    with pytest.raises(HardlookError, match="part-00000.arrow cannot be read"):
        store.get("010")
    os.truncate(path, len(whole) // 2)
    with pytest.raises(HardlookError, match="part-00000.arrow cannot be read"):
        store.get("019")
    path.write_bytes(whole)
    assert store.get("010") == blobs["010"]


@pytest.mark.parametrize("value", [{"a": "ü", "b": [1, None]}, [], "text", 5, {}])
def test_json_comes_back_for_every_reader_and_each_byte_counts(tmp_path, value):
    path = tmp_path / "a.json"
    write_json(path, value)
    assert read_json(path) == value == json.loads(path.read_text(encoding="utf8"))
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
            with pytest.raises(HardlookError, match="a.json is not JSON"):
                read_json(path)


def test_json_that_a_person_or_an_earlier_version_wrote_opens():
    for text in (b"{}", b"{}\n", b'{"a": 1}  \n\n', b"[1,\r\n2]\r\n"):
        assert json_value(text) == json.loads(text)
    assert json_value(json_bytes({"a": 1}).rstrip()) == {"a": 1}  # an editor that removes white space


def test_json_nested_too_deeply_is_one_clear_error(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(HardlookError, match="a.json is not JSON"):
        read_json(tmp_path / "a.json")
