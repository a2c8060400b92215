"""Files are the old one or the new one, and give back what was put in."""

import os
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest

from scoring.audit.errors import HardlookError, first_line
from scoring.audit.storage import (
    ABANDONED,
    BlobStore,
    atomic_path,
    column_facts,
    describe_column,
    read_json,
    read_metadata,
    read_table,
    read_vectors,
    readable,
    remove_abandoned_of,
    write_json,
    write_table,
    write_vectors,
)


def test_a_table_and_its_metadata_come_back(tmp_path):
    field = describe_column(pa.field("loss", pa.float32()), title="Loss", unit="nats", detects=None)
    table = pa.table(
        [pa.array(["a", "b"]), pa.array([1.0, None], pa.float32())],
        schema=pa.schema([pa.field("example_id", pa.string()), field]),
    )
    write_table(tmp_path / "t.parquet", table, {"parameters": {"views": 8}, "ärger": "ü"})
    found = read_table(tmp_path / "t.parquet")
    assert found.equals(table)
    assert read_metadata(tmp_path / "t.parquet") == {"parameters": {"views": 8}, "ärger": "ü"}
    assert column_facts(found.schema.field("loss")) == {"title": "Loss", "unit": "nats"}


def test_a_writer_that_fails_leaves_the_old_file_and_no_trace(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(tmp_path / "a.json") == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", ["", " \n ", ".", " . \n second"])
def test_an_exception_that_says_nothing_has_a_first_line_too(text, tmp_path):
    assert first_line(RuntimeError(text)) == "no reason was given"
    with (
        pytest.raises(HardlookError, match=r"a cannot be read \(no reason was given\); if it is damaged"),
        readable(tmp_path / "a"),
    ):
        raise OSError(text)


def test_the_first_line_of_an_exception_is_cut_and_has_no_full_stop():
    assert first_line(RuntimeError("\n\n  Too short. Add one...\r\nmore")) == "Too short. Add one"
    assert first_line(RuntimeError("a" * 400)) == "a" * 300 and first_line(RuntimeError("abc"), 2) == "ab"


def test_what_killed_writers_of_one_file_left_goes_after_an_hour_and_nothing_else_does(tmp_path):
    left, folder, young, other = (tmp_path / f".{name}.partial" for name in ("a[1].x", "a[1].y", "a[1].z", "a1.x"))
    folder.mkdir()
    for path in (left, young, other, folder / "inside.png", tmp_path / "a[1]"):
        path.write_text("half")
    for path in (left, folder / "inside.png", folder, other):
        os.utime(path, (time.time() - ABANDONED - 60,) * 2)
    remove_abandoned_of(tmp_path / "a[1]")
    assert {path.name for path in tmp_path.iterdir()} == {".a[1].z.partial", ".a1.x.partial", "a[1]"}


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})
    code = (
        "import os, signal, sys; from pathlib import Path; from scoring.audit.storage import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as t:\n"
        "    t.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.json")], env={**os.environ})
    assert done.returncode == -9
    assert read_json(tmp_path / "a.json") == {"old": 1}


def test_broken_files_give_one_clear_error(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "t.parquet").write_text("not parquet")
    with pytest.raises(HardlookError, match="a.json is not JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(HardlookError, match="t.parquet cannot be read"):
        read_table(tmp_path / "t.parquet")
    assert read_json(tmp_path / "none.json", []) == []


@pytest.mark.parametrize("n", [0, 1, 1000])
def test_vectors_come_back_to_the_bit(tmp_path, n):
    values = np.random.default_rng(0).normal(size=(n, 7)).astype(np.float32)
    ids = [f"{number}/ü" for number in range(n)]
    write_vectors(tmp_path / "v.arrow", ids, values)
    found_ids, found = read_vectors(tmp_path / "v.arrow")
    assert found_ids.tolist() == ids
    np.testing.assert_array_equal(found, values)


def test_blobs_are_found_by_id_and_a_later_part_wins(tmp_path):
    store = BlobStore(tmp_path / "blobs.arrow")
    assert store.get("a") is None
    store.write_part([("b", b"1"), ("a", b"2"), ("z/é", b"")])
    assert (store.get("a"), store.get("b"), store.get("z/é"), store.get("c")) == (b"2", b"1", b"", None)
    store.write_part([("c", b"3")])
    assert store.get("c") == b"3"
    BlobStore(store.folder).write_part([("a", b"new")])
    assert BlobStore(store.folder).get("a") == b"new"
    assert store.ids() == {"a", "b", "c", "z/é"}
    assert store.get("a") == b"new"
    store.write_part([])
    assert len(list(store.folder.iterdir())) == 3


def test_a_table_cut_short_never_appears_under_its_name(tmp_path):
    class Broken:
        schema = pa.schema([])

        def replace_schema_metadata(self, _):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_table(tmp_path / "t.parquet", Broken())
    assert not list(tmp_path.iterdir())


def test_a_part_that_is_listed_but_leads_nowhere_is_named(tmp_path):
    store = BlobStore(tmp_path / "blobs.arrow")
    store.write_part([("a", b"old")])
    (store.folder / "part-00001.arrow").symlink_to("gone")
    with pytest.raises(HardlookError, match="part-00001.arrow cannot be read .*not there"):
        BlobStore(store.folder).get("a")


def test_the_damaged_description_of_a_column_is_one_sentence():
    with pytest.raises(HardlookError, match="description of the column 'aum' is damaged"):
        column_facts(pa.field("aum", pa.float32(), metadata={b"title": b"AUM \x88"}))
