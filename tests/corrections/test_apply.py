"""A patch goes into a manifest or an image folder, refuses example by example, and comes out again."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.audit.errors import HardlookError
from scoring.corrections.apply import apply_to, targets, undo
from scoring.corrections.apply.targets import open_target
from scoring.corrections.label_patch import PATCH_SCHEMA, write_patch

from ..conftest import hardlook


def content(name: str) -> bytes:
    return f"picture {name}".encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def patch(path: Path, *rows: tuple) -> Path:
    """A patch of (example_id, content, old label, new label, disposition)."""
    made = []
    for example, data, old, new, disposition in rows:
        row = dict.fromkeys(PATCH_SCHEMA.names)
        row |= {
            "example_id": example,
            "fingerprint": digest(data),
            "split": "train",
            "old_label": old,
            "new_label": new,
            "disposition": disposition,
            "verdict": "other",
            "reviewer": "ada",
            "time": pd.Timestamp(0, tz="UTC"),
            "status": "agreed",
            "labels": (),
            "issues": (),
        }
        made.append(row)
    frame = pd.DataFrame(made, columns=PATCH_SCHEMA.names).astype({"time": "datetime64[us, UTC]"})
    write_patch(path, frame)
    return path


@pytest.fixture
def folder(tmp_path):
    """cat/1.png, cat/deep/2.png, dog/3.png, dog/4.png"""
    root = tmp_path / "pictures"
    for name in ("cat/1.png", "cat/deep/2.png", "dog/3.png", "dog/4.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content(name))
    return root


def files(root: Path) -> dict[str, bytes]:
    """Every visible file."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
    }


def outcomes(report: pd.DataFrame) -> dict[str, str]:
    return dict(zip(report["example_id"], report["outcome"], strict=True))


ROWS = (
    ("data/pictures/cat/deep/2.png", content("cat/deep/2.png"), "cat", "dog", "relabel"),
    ("data/pictures/dog/3.png", content("dog/3.png"), "dog", None, "exclude"),
    ("data/pictures/dog/4.png", b"other bytes", "dog", "cat", "relabel"),
    ("data/pictures/gone/9.png", b"gone", "cat", "dog", "relabel"),
)


def test_a_folder_is_corrected_by_moving_and_brought_back(folder, tmp_path):
    before = files(folder)
    report = apply_to(patch(tmp_path / "p.csv", *ROWS), open_target(folder))
    assert outcomes(report) == {
        ROWS[0][0]: "relabelled",
        ROWS[1][0]: "excluded",
        ROWS[2][0]: "refused",
        ROWS[3][0]: "refused",
    }
    reasons = report.set_index("example_id")["reason"]
    assert "fingerprint differs" in reasons[ROWS[2][0]] and "not in this dataset" in reasons[ROWS[3][0]]
    assert set(files(folder)) == {"cat/1.png", "dog/deep/2.png", "dog/4.png"}
    assert files(folder)["dog/deep/2.png"] == content("cat/deep/2.png")
    assert undo(open_target(folder)) == []
    assert files(folder) == before


def test_applying_twice_changes_nothing_more_and_one_undo_takes_it_back(folder, tmp_path):
    made, before = patch(tmp_path / "p.csv", *ROWS[:2], ROWS[3]), files(folder)
    apply_to(made, open_target(folder))
    after = files(folder)
    assert outcomes(apply_to(made, open_target(folder))) == {
        ROWS[0][0]: "relabelled",
        ROWS[1][0]: "excluded",
        ROWS[3][0]: "refused",
    }
    assert files(folder) == after
    undo(open_target(folder))
    assert files(folder) == before
    with pytest.raises(HardlookError, match="nothing to undo"):
        undo(open_target(folder))


def dying(call, at: int):
    """The same call, which ends everything the nth time."""
    count = itertools.count(1)

    def die(*given):
        if next(count) == at:
            raise KeyboardInterrupt
        return call(*given)

    return die


def test_a_kill_between_two_moves_is_undone_or_finished(folder, tmp_path, monkeypatch):
    before = files(folder)
    made = patch(tmp_path / "p.csv", *ROWS[:2])
    monkeypatch.setattr(targets, "_move", dying(targets._move, 2))
    with pytest.raises(KeyboardInterrupt):
        apply_to(made, open_target(folder))
    assert files(folder) != before
    assert undo(open_target(folder)) == []
    assert files(folder) == before


def test_a_killed_application_is_finished_by_the_next_and_one_undo_takes_both_back(folder, tmp_path, monkeypatch):
    before = files(folder)
    made = patch(tmp_path / "p.csv", *ROWS[:2])
    apply_to(made, open_target(folder))
    whole = files(folder)
    undo(open_target(folder))
    with monkeypatch.context() as patched:
        patched.setattr(targets, "_move", dying(targets._move, 2))
        with pytest.raises(KeyboardInterrupt):
            apply_to(made, open_target(folder))
    assert files(folder) not in (before, whole)
    apply_to(made, open_target(folder))
    assert files(folder) == whole and open_target(folder).applications == 1
    assert undo(open_target(folder)) == [] and files(folder) == before


def test_a_manifest_whose_application_was_killed_takes_the_next_and_one_undo(tmp_path, monkeypatch):
    path = tmp_path / "m.csv"
    (tmp_path / "a.png").write_bytes(content("a"))
    path.write_text("path,label\na.png,cat\n")
    made = patch(tmp_path / "p.csv", ("a.png", content("a"), "cat", "dog", "relabel"))
    with monkeypatch.context() as patched:
        patched.setattr(
            "scoring.audit.atomic.os.replace", dying(os.replace, 3)
        )  # what was there, the journal, then itself
        with pytest.raises(KeyboardInterrupt):
            apply_to(made, open_target(path))
    assert path.read_text() == "path,label\na.png,cat\n" and open_target(path).applications == 1
    apply_to(made, open_target(path))
    assert path.read_text() == "path,label\na.png,dog\n" and open_target(path).applications == 1
    undo(open_target(path))
    assert path.read_text() == "path,label\na.png,cat\n" and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("label", ["../up", "/root", ".hidden", "a/../../b", ""])
def test_a_class_name_never_leads_out_of_the_folder(folder, tmp_path, label):
    report = apply_to(patch(tmp_path / "p.parquet", (*ROWS[0][:3], label, "relabel")), open_target(folder))
    assert outcomes(report)[ROWS[0][0]] == "refused"
    assert len(files(folder)) == 4 and not (tmp_path / "up").exists()


def test_nothing_is_overwritten_and_a_file_whose_name_is_taken_gets_a_number(folder, tmp_path):
    (folder / "dog/deep").mkdir()
    (folder / "dog/deep/2.png").write_bytes(b"mine")
    before, made = files(folder), patch(tmp_path / "p.csv", ROWS[0])
    report = apply_to(made, open_target(folder))
    assert outcomes(report) == {ROWS[0][0]: "relabelled"}
    assert report["reason"].item().startswith("renamed to dog/deep/2-2.png, since dog/deep/2.png is another file")
    assert files(folder)["dog/deep/2.png"] == b"mine"
    assert files(folder)["dog/deep/2-2.png"] == content("cat/deep/2.png")
    assert outcomes(apply_to(made, open_target(folder))) == {ROWS[0][0]: "relabelled"}
    assert undo(open_target(folder)) == [] and files(folder) == before


MANIFEST = 'id,path,label,note\r\na,1.png,cat,"x, ""y"""\r\nb,2.png,=cat,\r\nc,3.png,dog,'


@pytest.fixture
def manifest(tmp_path):
    for name in ("1.png", "2.png", "3.png"):
        (tmp_path / name).write_bytes(content(name))
    (tmp_path / "train.csv").write_bytes(("\ufeff" + MANIFEST).encode())
    return tmp_path / "train.csv"


def test_a_manifest_keeps_all_but_its_labels(manifest, tmp_path):
    rows = (("a", content("1.png"), "cat", "=dog", "relabel"), ("b", content("2.png"), "=cat", None, "exclude"))
    made = patch(tmp_path / "p.csv", *rows)
    assert "'=dog" in made.read_text()
    before = manifest.read_bytes()
    report = apply_to(made, open_target(manifest, columns={"id_column": "id"}))
    assert report["outcome"].tolist() == ["relabelled", "excluded"]
    assert manifest.read_bytes().decode() == '\ufeffid,path,label,note\r\na,1.png,=dog,"x, ""y"""\r\nc,3.png,dog,\r\n'
    again = apply_to(made, open_target(manifest, columns={"id_column": "id"}))
    assert again["outcome"].tolist() == ["relabelled", "excluded"] and "earlier" in again["reason"][1]
    assert undo(open_target(manifest)) == []
    assert manifest.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_undo_refuses_where_it_would_lose_later_work(manifest, tmp_path):
    apply_to(patch(tmp_path / "p.csv", ("x/1.png", content("1.png"), "cat", "dog", "relabel")), open_target(manifest))
    manifest.write_text(manifest.read_text() + "d,1.png,dog,\n")
    with pytest.raises(HardlookError, match="was changed after"):
        undo(open_target(manifest))
    assert "d,1.png" in manifest.read_text()


def test_numbers_stay_numbers_in_parquet_and_other_columns_stay(tmp_path):
    path = tmp_path / "train.parquet"
    table = pa.table({"bytes": [content("1"), content("2")], "label": pa.array([0, 1], pa.int8()), "x": [1.5, None]})
    pq.write_table(table.replace_schema_metadata({"about": "mine"}), path)
    made = patch(tmp_path / "p.parquet", (digest(content("2"))[:16], content("2"), "dog", "cat", "relabel"))
    with pytest.raises(HardlookError, match="--classes"):
        apply_to(patch(tmp_path / "q.parquet", ("q", content("2"), "1", "cat", "relabel")), open_target(path))
    report = apply_to(made, open_target(path, ["cat", "dog"]))
    assert report["outcome"].tolist() == ["relabelled"]
    after = pq.read_table(path)
    assert after["label"].to_pylist() == [0, 0] and after.schema.field("label").type == pa.int8()
    assert after["x"].equals(table["x"]) and after.schema.metadata[b"about"] == b"mine"
    undo(open_target(path))
    assert pq.read_table(path)["label"].to_pylist() == [0, 1]


def test_the_command_reports_refusals_and_takes_back(folder, tmp_path, capsys):
    made = patch(tmp_path / "p.csv", *ROWS)
    assert hardlook("apply", made, folder, "--report", tmp_path / "report.csv") == 1
    shown = capsys.readouterr().out
    assert "2 refused" in shown and "1 relabelled" in shown and "refused 'data/pictures/dog/4.png'" in shown
    assert len((tmp_path / "report.csv").read_text().splitlines()) == 5
    assert hardlook("apply", "--undo", folder) == 0
    assert len(files(folder)) == 4
    assert hardlook("apply", folder) == 1
    assert "found no PATCH" in capsys.readouterr().err
    assert hardlook("apply", made, tmp_path / "nothing") == 1
    assert "does not exist" in capsys.readouterr().err


def test_an_audits_decisions_reach_its_own_manifest(sample_copy, capsys):
    from scoring.audit import Audit
    from scoring.audit.storage import read_table
    from scoring.reviews import Event, ReviewLog

    audit = Audit.open(sample_copy)
    one = read_table(audit.examples_path).to_pandas().query("split == 'train'").iloc[7]
    new = str((int(one.label) + 1) % 10)
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        log.append(
            [
                Event(
                    client="c",
                    seq=1,
                    example_id=one.example_id,
                    fingerprint=one.fingerprint,
                    label=one.label,
                    reviewer="r",
                    action="decide",
                    verdict="other",
                    new_label=new,
                )
            ]
        )
    assert hardlook("export", sample_copy, "--out", sample_copy / "out") == 0
    manifest = sample_copy / "data" / "train.csv"
    given = ("apply", sample_copy / "out" / "patch-train.csv", manifest, "--audit", sample_copy, "--id-column", "id")
    assert hardlook(*given) == 0
    found = pd.read_csv(manifest, dtype=str).set_index("id")["label"]
    assert found[one.example_id] == new
    assert json.loads((manifest.parent / f".train.csv{targets.JOURNAL}").read_text())


JUNK = {
    "a time in words": ("time", "yesterday", "time of row 1 is 'yesterday'; needed a time such as 2025-12-31T09:00:00"),
    "no day of a calendar": ("time", "2026-13-45", "time of row 1 is '2026-13-45'; needed a time"),
    "a year beyond all": ("time", "9999999-01-01", "time of row 1 is '9999999-01-01'; needed a time"),
    "words for labels": ("labels", "cat or dog", "labels of row 1 is 'cat or dog'; needed a list of names"),
    "a number for labels": ("labels", "5", "labels of row 1 is '5'; needed a list of names"),
    "an object for issues": ("issues", '{"a": 1}', "issues of row 1 is .*; needed a list of names"),
    "numbers in labels": ("labels", "[1, 2]", "labels of row 1 is .*; needed a list of names"),
    "brackets without end": ("labels", "[" * 50_000, "labels of row 1 is .*; needed a list of names"),
    "no id": ("example_id", "", "a row of the patch has no example_id"),
    "another disposition": ("disposition", "burn", "the patch has disposition 'burn'; needed one of keep"),
}


@pytest.mark.parametrize("junk", JUNK)
def test_junk_in_a_patch_is_one_sentence_and_changes_nothing(folder, tmp_path, junk):
    column, value, sentence = JUNK[junk]
    made, before = patch(tmp_path / "p.csv", ROWS[0]), files(folder)
    frame = pd.read_csv(made, dtype=str, keep_default_na=False)
    frame.assign(**{column: value}).to_csv(made, index=False)
    with pytest.raises(HardlookError, match=sentence) as caught:
        apply_to(made, open_target(folder))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert files(folder) == before


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("time", pa.array(["x"])),
        ("labels", pa.array([5])),
        ("labels", pa.array([[1]])),
        ("issues", pa.array([{"a": 1}])),
        ("example_id", pa.array([5])),
        ("new_label", pa.array([1.5])),
        ("fingerprint", pa.array([[1]])),
    ],
)
def test_a_parquet_patch_of_other_types_is_refused_by_the_columns_name(folder, tmp_path, column, values):
    made = patch(tmp_path / "p.parquet", ROWS[0])
    table = pq.read_table(made)
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, values), made)
    with pytest.raises(HardlookError, match=f"{column}.* needed .*`hardlook export`"):
        apply_to(made, open_target(folder))


def test_a_parquet_patch_that_pandas_saved_again_is_still_a_patch(folder, tmp_path):
    made = patch(tmp_path / "p.parquet", *ROWS)
    pd.read_parquet(made).to_parquet(made)
    assert set(apply_to(made, open_target(folder))["outcome"]) == {"relabelled", "excluded", "refused"}


def test_a_journal_that_is_none_is_one_sentence(folder, tmp_path):
    for junk in ("{", "5", '[{"moves": 5}]', '[{"moves": [["a"]]}]'):
        (folder / targets.JOURNAL).write_text(junk)
        with pytest.raises(HardlookError, match="is not a journal of applied patches; move it away"):
            apply_to(patch(tmp_path / "p.csv", ROWS[0]), open_target(folder))
    assert len(files(folder)) == 4
