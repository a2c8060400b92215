"""An example keeps its id when its file is renamed or moved; equal contents that nothing tells apart are reported."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from scoring.audit.storage import read_json
from scoring.data.examples import read_examples
from scoring.data.identities import Known, Place, settle
from scoring.data.ingest import ingest

from .test_ingest import audit_of, save

TRAIN = 'path = "train"\nsplit = "train"'


@pytest.fixture
def audit(tmp_path):
    """cat/a, cat/b, dog/c, dog/d: four pictures, read once."""
    for number, name in enumerate(("cat/a", "cat/b", "dog/c", "dog/d")):
        save(tmp_path / f"train/{name}.png", 10 * number + 1)
    made = audit_of(tmp_path, TRAIN)
    ingest(made)
    return made


def move(audit, old, new):
    target = audit.root / "train" / new
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(audit.root / "train" / old, target)


def table(audit):
    """id → where its file is, and its label."""
    rows = read_examples(audit)
    return {
        own: (path, label) for own, path, label in rows[["example_id", "reference", "label"]].itertuples(index=False)
    }


def counts(found):
    return found.moved, found.added, found.changed, found.relabelled, found.removed


def test_a_file_that_moved_to_another_class_is_the_same_example_with_another_label(audit):
    move(audit, "cat/a.png", "dog/a.png")
    found = ingest(audit)
    assert counts(found) == (1, 0, 0, 1, 0) and found.decoded == 0
    assert table(audit)["train/cat/a.png"] == ("train/dog/a.png", "dog")
    assert audit.thumbnails.ids() == set(table(audit)), "no picture is made twice"
    assert read_json(audit.ingest_path)["moved"] == 1


def test_a_file_that_moves_again_and_back_keeps_its_first_id(audit):
    first = table(audit)
    for old, new in (("cat/a", "dog/x"), ("dog/x", "dog/y"), ("dog/y", "cat/deep/z"), ("cat/deep/z", "cat/a")):
        move(audit, f"{old}.png", f"{new}.png")
        assert counts(ingest(audit))[:3] == (1, 0, 0)
        assert table(audit)["train/cat/a.png"][0] == f"train/{new}.png"
    assert table(audit) == first
    assert counts(ingest(audit)) == (0, 0, 0, 0, 0)


def test_two_files_that_swap_names_keep_their_ids(audit):
    for number, name in enumerate(("cat/a", "cat/b"), 1):  # told apart by content alone, not by size or time
        save(audit.root / f"train/{name}.png", number, age=0)
    ingest(audit)
    move(audit, "cat/a.png", "kept.png")
    move(audit, "cat/b.png", "cat/a.png")
    move(audit, "kept.png", "cat/b.png")
    assert counts(ingest(audit)) == (2, 0, 0, 0, 0)
    assert table(audit)["train/cat/a.png"][0] == "train/cat/b.png"
    assert table(audit)["train/cat/b.png"][0] == "train/cat/a.png"


def test_a_chain_of_renames_shifts_no_identity_and_a_new_file_at_an_old_place_is_new(audit):
    move(audit, "cat/b.png", "cat/c.png")
    move(audit, "cat/a.png", "cat/b.png")
    save(audit.root / "train/cat/a.png", 99)
    assert counts(ingest(audit)) == (2, 1, 0, 0, 0)
    found = table(audit)
    assert found["train/cat/a.png"][0] == "train/cat/b.png" and found["train/cat/b.png"][0] == "train/cat/c.png"
    assert found["train/cat/a.png#2"][0] == "train/cat/a.png"
    assert counts(ingest(audit)) == (0, 0, 0, 0, 0) and table(audit) == found


def test_a_moved_root_moves_every_example_and_equal_contents_by_their_names(audit):
    save(audit.root / "train/dog/twin.png", 1)
    save(audit.root / "train/cat/twin.png", 1)
    ingest(audit)
    before = {own: label for own, (_, label) in table(audit).items()}
    shutil.move(audit.root / "train", audit.root / "elsewhere" / "pictures")
    moved = audit_of(audit.root, TRAIN.replace('"train"', '"elsewhere/pictures"', 1))
    found = ingest(moved)
    assert counts(found) == (6, 0, 0, 0, 0) and not found.notes
    assert {own: label for own, (_, label) in table(moved).items()} == before
    assert all(path == f"elsewhere/pictures{own.removeprefix('train')}" for own, (path, _) in table(moved).items())


def test_a_file_that_moved_and_was_edited_is_a_new_example(audit):
    (audit.root / "train/cat/a.png").unlink()
    save(audit.root / "train/dog/a.png", 123)
    assert counts(ingest(audit)) == (0, 1, 0, 0, 1)
    assert "train/cat/a.png" not in table(audit) and "train/dog/a.png" in table(audit)


def test_a_file_edited_in_its_place_is_the_same_example_changed(audit):
    save(audit.root / "train/cat/a.png", 123)
    save(audit.root / "train/cat/b.png", 124)
    assert counts(ingest(audit)) == (0, 0, 2, 0, 0)


def test_an_example_that_was_decided_comes_back_under_its_id_though_it_was_gone_for_a_while(audit):
    rows = read_examples(audit).set_index("example_id")
    kept = (audit.root / "train/cat/a.png").read_bytes()
    (audit.root / "train/cat/a.png").unlink()
    ingest(audit)
    (audit.root / "train/dog/back.png").write_bytes(kept)
    asked = []

    def decided():
        asked.append(True)
        return {"train/cat/a.png": rows.loc["train/cat/a.png", "fingerprint"]}

    assert ingest(audit, decided=decided).moved == 1
    assert table(audit)["train/cat/a.png"] == ("train/dog/back.png", "dog")
    ingest(audit, decided=decided)
    assert len(asked) == 1, "the log is asked where files are new alone"


def test_one_of_two_equal_files_that_moved_is_known_by_the_place_of_the_other(audit):
    save(audit.root / "train/cat/twin.png", 1)
    ingest(audit)
    move(audit, "cat/a.png", "dog/other.png")
    assert counts(ingest(audit)) == (1, 0, 0, 1, 0)
    assert table(audit)["train/cat/a.png"][0] == "train/dog/other.png"
    assert table(audit)["train/cat/twin.png"][0] == "train/cat/twin.png"


def test_equal_files_that_all_got_new_names_are_reported_and_a_name_given_back_decides(audit):
    save(audit.root / "train/cat/twin.png", 1)
    ingest(audit)
    known = dict(read_examples(audit)[["example_id", "fingerprint"]].itertuples(index=False))
    move(audit, "cat/a.png", "cat/x.png")
    move(audit, "cat/twin.png", "cat/y.png")
    found = ingest(audit)
    assert counts(found) == (0, 2, 0, 0, 2)
    (note,) = found.notes
    assert note.startswith("2 files at new paths have the content of several earlier examples")
    assert "'train/cat/x.png', 'train/cat/y.png' may be 'train/cat/a.png' or 'train/cat/twin.png'" in note
    move(audit, "cat/x.png", "dog/twin.png")
    assert ingest(audit, decided=lambda: known).moved == 1
    assert table(audit)["train/cat/twin.png"] == ("train/dog/twin.png", "dog")


def test_a_copy_leaves_the_original_its_id(audit):
    shutil.copy2(audit.root / "train/cat/a.png", audit.root / "train/dog/a.png")
    assert counts(ingest(audit)) == (0, 1, 0, 0, 0)
    assert table(audit)["train/cat/a.png"][0] == "train/cat/a.png"


def test_a_manifest_whose_files_moved_keeps_its_ids_with_a_file_that_it_lists_twice(tmp_path):
    save(tmp_path / "a.png", 1)
    save(tmp_path / "b.png", 2)
    (tmp_path / "train.csv").write_text("path,label\na.png,cat\nb.png,cat\na.png,dog\n")
    audit = audit_of(tmp_path, 'path = "train.csv"\nsplit = "train"')
    ingest(audit)
    before = {own: label for own, (_, label) in table(audit).items()}
    (tmp_path / "new").mkdir()
    for name in "ab":
        os.rename(tmp_path / f"{name}.png", tmp_path / f"new/{name}.png")
    (tmp_path / "train.csv").write_text("path,label\nnew/a.png,cat\nnew/b.png,cat\nnew/a.png,dog\n")
    assert counts(ingest(audit)) == (3, 0, 0, 0, 0)
    assert {own: label for own, (_, label) in table(audit).items()} == before


def test_ids_of_the_users_own_and_ids_from_content_are_left_alone(tmp_path):
    image = np.arange(24, dtype=np.uint8).reshape(4, 6)
    for name in ("a", "b"):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    (tmp_path / "train.csv").write_text("example_id,path,label\none,a.png,cat\n")
    audit = audit_of(tmp_path, 'path = "train.csv"\nsplit = "train"')
    ingest(audit)
    (tmp_path / "train.csv").write_text("example_id,path,label\ntwo,b.png,cat\n")
    assert counts(ingest(audit)) == (0, 1, 0, 0, 1)
    assert list(table(audit)) == ["two"]


def place(path, split="train"):
    return Place(path, path, 0, split)


def old(path, content, split="train"):
    return Known(path, path, 0, split, content)


def settled(places, known, contents):
    return settle(places, known, (), lambda at, own: False, lambda wanted: {at: contents[at] for at in wanted})


def test_within_a_split_first():
    found = settled(
        [place("x.png", "test"), place("y.png", "train")],
        [old("a.png", "1", "train"), old("b.png", "1", "test")],
        ["1", "1"],
    )
    assert found.ids == ["b.png", "a.png"] and found.moved == 2


def test_the_longest_end_of_a_path_that_one_alone_has_decides():
    known = [old("r/cat/1.png", "1"), old("r/dog/1.png", "1"), old("r/dog/2.png", "1")]
    places = [place("s/dog/2.png"), place("s/dog/1.png"), place("s/bird/7.png")]
    found = settled(places, known, ["1", "1", "1"])
    assert found.ids == ["r/dog/2.png", "r/dog/1.png", "r/cat/1.png"] and not found.ambiguous


def test_a_hundred_equal_files_of_a_moved_root_are_told_apart():
    known = [old(f"r/{n // 10}/{n % 10}.png", "1") for n in range(100)]
    found = settled([place(f"s/t/{n // 10}/{n % 10}.png") for n in range(100)], known, ["1"] * 100)
    assert found.ids == [one.example_id for one in known] and found.moved == 100


def test_a_file_that_cannot_be_read_keeps_its_id_unless_its_content_is_elsewhere():
    assert settled([place("a.png")], [old("a.png", "1"), old("b.png", "2")], [None]).ids == ["a.png"]
    assert settled([place("a.png"), place("c.png")], [old("a.png", "1")], [None, "1"]).ids == ["a.png#2", "a.png"]
