"""scoring.data.ingest: ids, changes, problems, and what a kill leaves behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import BlobStore, read_json, read_table
from scoring.data.examples import read_examples
from scoring.data.ingest import ingest


def audit_of(root, *data, classes=("cat", "dog"), media="image"):
    tables = "".join(f"[[data]]\n{lines}\n" for lines in data)
    root.mkdir(exist_ok=True, parents=True)
    (root / "audit.toml").write_text(f"format = 1\nmedia = {media!r}\nclasses = {json.dumps(classes)}\n{tables}")
    return Audit.open(root)


def save(path, colour=0, size=(4, 3), age=10):
    """A small picture, written ``age`` seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, colour).save(path)
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.fixture
def folders(tmp_path):
    for number, name in enumerate(("train/cat/a.png", "train/cat/b.png", "train/dog/a.png", "test/cat/a.png")):
        save(tmp_path / name, number)
    save(tmp_path / "pool/x.png", 9)
    return audit_of(tmp_path, *(f'path = "{split}"\nsplit = "{split}"' for split in ("train", "test", "pool")))


def ids(audit):
    return read_examples(audit)["example_id"].tolist()


# -------------------------------------------------------------------------------------------------- the table


def test_the_table_holds_one_row_per_example(folders):
    found = ingest(folders)
    examples = read_examples(folders)
    assert examples["example_id"].tolist() == [
        "train/cat/a.png",
        "train/cat/b.png",
        "train/dog/a.png",
        "test/cat/a.png",
        "pool/x.png",
    ]
    assert examples["reference"].tolist() == examples["example_id"].tolist()
    assert examples["label"].tolist()[:4] == ["cat", "cat", "dog", "cat"] and examples["label"].isna()[4]
    assert examples["source"].tolist() == [0, 0, 0, 1, 2] and examples["row"].tolist() == [0, 1, 2, 0, 0]
    assert examples["fingerprint"].str.fullmatch("[0-9a-f]{64}").all() and examples["fingerprint"].is_unique
    assert str(examples["source"].dtype) == "int32" and str(examples["row"].dtype) == "int64"
    assert (found.examples, found.added, found.changed, found.removed, found.decoded) == (5, 5, 0, 0, 5)


def test_the_summary_is_kept_beside_the_table(folders):
    found = ingest(folders)
    kept = read_json(folders.ingest_path)
    assert kept["splits"]["train"] == {"examples": 3, "unlabelled": 0, "problems": 0, "classes": {"cat": 2, "dog": 1}}
    assert kept["splits"]["pool"]["unlabelled"] == 1
    assert kept["problems"] == found.problems == []


def test_thumbnails_are_written_once(folders):
    ingest(folders)
    assert folders.thumbnails.ids() == set(ids(folders))
    again = ingest(folders)
    assert again.decoded == again.added == again.changed == 0
    assert len(list((folders.root / "thumbnails.arrow").glob("*"))) == 3, "one part per source, none added"


def test_nothing_new_leaves_the_table_untouched(folders):
    ingest(folders)
    before = folders.examples_path.stat().st_mtime_ns
    ingest(folders)
    assert folders.examples_path.stat().st_mtime_ns == before


def test_files_need_no_copy_of_their_original(folders):
    ingest(folders)
    assert not folders.originals.ids()


def test_the_folder_can_be_moved(folders, tmp_path_factory):
    ingest(folders)
    table = read_examples(folders)
    moved = tmp_path_factory.mktemp("moved") / "audit"
    shutil.copytree(folders.root, moved)
    audit = Audit.open(moved)
    assert ingest(audit).changed == 0
    assert read_examples(audit).equals(table)


def test_any_number_of_workers_makes_the_same_table(folders):
    ingest(folders, workers=1)
    one = read_examples(folders)
    shutil.rmtree(folders.root / "thumbnails.arrow")
    ingest(folders, workers=7)
    assert read_examples(folders).equals(one)


def test_progress_counts_every_example(folders):
    import contextlib

    seen = []

    @contextlib.contextmanager
    def progress(what, total):
        seen.append(total)
        yield seen.append

    ingest(folders, progress=progress)
    assert seen[0] == sum(seen[1:]) == 5


def test_metadata_of_several_sources_is_one_set_of_columns(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "one.csv").write_text("path,label,age,place\na.png,cat,3,Rome\n")
    (tmp_path / "two.csv").write_text("path,label,age\na.png,dog,old\n")
    audit = audit_of(tmp_path, 'path = "one.csv"\nsplit = "train"', 'path = "two.csv"\nsplit = "test"')
    ingest(audit)
    examples = read_examples(audit)
    assert examples["meta.age"].tolist() == ["3", "old"]
    assert examples["meta.place"][0] == "Rome" and examples["meta.place"].isna()[1]


# -------------------------------------------------------------------------------------------------------- ids


def test_data_outside_the_audit_is_named_by_split_and_relative_path(tmp_path):
    for split in ("train", "test"):
        save(tmp_path / split / "cat/a.png")
    audit = audit_of(tmp_path / "audit", *(f'path = "../{s}"\nsplit = "{s}"' for s in ("train", "test")))
    ingest(audit)
    assert ids(audit) == ["train/cat/a.png", "test/cat/a.png"]
    assert read_examples(audit)["reference"][0] == str(tmp_path / "train/cat/a.png")


def test_one_file_listed_again_gets_its_split_then_an_ordinal(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "train.csv").write_text("path,label\na.png,cat\na.png,dog\n./a.png,cat\n")
    (tmp_path / "test.csv").write_text("path,label\na.png,cat\n")
    audit = audit_of(tmp_path, *(f'path = "{s}.csv"\nsplit = "{s}"' for s in ("train", "test")))
    found = ingest(audit)
    assert ids(audit) == ["a.png", "train:a.png", "train:a.png#2", "test:a.png"]
    assert found.duplicates == {"groups": 1, "across_splits": 1, "conflicting": 1}


def test_content_names_what_has_no_path_with_an_ordinal_among_copies(tmp_path):
    images = np.arange(3, dtype=np.uint8)[:, None, None] + np.zeros((3, 4, 5), np.uint8)
    np.savez(tmp_path / "a.npz", x=images[[0, 1, 0, 2, 0]], y=[0, 0, 0, 0, 0])
    audit = audit_of(tmp_path, 'path = "a.npz"\nsplit = "train"')
    ingest(audit)
    first = ids(audit)[0]
    assert ids(audit)[2] == f"{first}#2" and ids(audit)[4] == f"{first}#3" and len(set(ids(audit))) == 5
    assert first == read_examples(audit)["fingerprint"][0][:16]
    assert audit.thumbnails.ids() == audit.originals.ids() == set(ids(audit))


def test_content_ids_follow_their_content_when_rows_move(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 5), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=images)
    audit = audit_of(tmp_path, 'path = "a.npz"\nsplit = "pool"')
    ingest(audit)
    before = ids(audit)
    order = np.array([3, 0, 5, 1])
    np.savez(tmp_path / "a.npz", x=images[order])
    found = ingest(audit)
    assert ids(audit) == [before[row] for row in order]
    assert (found.added, found.changed, found.removed, found.decoded) == (0, 0, 2, 0)


def test_a_new_copy_of_known_content_gets_pictures_of_its_own(tmp_path):
    image = np.ones((1, 4, 5), np.uint8)
    np.savez(tmp_path / "a.npz", x=image)
    audit = audit_of(tmp_path, 'path = "a.npz"\nsplit = "pool"')
    ingest(audit)
    np.savez(tmp_path / "a.npz", x=np.concatenate([image, image]))
    ingest(audit)
    assert audit.thumbnails.ids() == audit.originals.ids() == set(ids(audit))


def test_ids_given_twice_are_one_error_that_names_them(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2, 2)), k=["a", "b", "a", "b"])
    with pytest.raises(HardlookError, match="2 ids are used by more than one example: 'a', 'b'.*id_prefix"):
        ingest(audit_of(tmp_path, 'path = "a.npz"\nsplit = "pool"\nids = "k"'))


def test_a_prefix_tells_two_numberings_apart(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 2, 2)), k=[0, 1])
    data = 'path = "a.npz"\nsplit = "pool"\nids = "k"\n'
    audit = audit_of(tmp_path, data, data + 'id_prefix = "more/"')
    ingest(audit)
    assert ids(audit) == ["0", "1", "more/0", "more/1"]


@pytest.mark.parametrize(("name", "message"), [("", "row 1 is empty"), ("a\0b", "NUL")])
def test_empty_ids_and_ids_with_nul_are_refused(tmp_path, name, message):
    (tmp_path / "a.csv").write_bytes(f'path,example_id\na.png,x\nb.png,"{name}"\n'.encode())
    with pytest.raises(HardlookError, match=message):
        ingest(audit_of(tmp_path, 'path = "a.csv"\nsplit = "pool"'))


def test_ids_may_hold_any_other_text(tmp_path):
    names = ["a/b", "ü 日本", "../x", 'it\'s "q"', "<b>", "new\nline", "%2F", " ", "=1+1"]
    np.savez(tmp_path / "a.npz", x=np.arange(len(names) * 4).reshape(-1, 2, 2), k=names)
    audit = audit_of(tmp_path, 'path = "a.npz"\nsplit = "pool"\nids = "k"')
    ingest(audit)
    assert ids(audit) == names
    assert all(audit.thumbnails.get(name) for name in names)


# ---------------------------------------------------------------------------------------------------- changes


def test_what_changed_is_read_again_and_nothing_else(folders):
    ingest(folders)
    thumbnail = folders.thumbnails.get("train/cat/a.png")
    save(folders.root / "train/cat/a.png", 200)
    save(folders.root / "train/dog/new.png", 7)
    (folders.root / "test/cat/a.png").unlink()
    found = ingest(folders)
    assert (found.added, found.changed, found.removed, found.decoded) == (1, 1, 1, 2)
    assert folders.thumbnails.get("train/cat/a.png") != thumbnail
    assert "test/cat/a.png" not in ids(folders)
    assert read_table(folders.ingest_folder / "known.parquet").num_rows == found.examples, "the memory does not grow"


def test_an_untouched_file_is_not_even_opened(folders, monkeypatch):
    from pathlib import Path

    ingest(folders)
    opened = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path) or read(path))
    ingest(folders)
    assert not opened
    os.utime(folders.root / "pool/x.png", (1e9, 1e9))
    assert ingest(folders).changed == 0
    assert [path.name for path in opened] == ["x.png"]


def test_a_file_written_a_moment_ago_is_not_recognised_by_its_time(folders):
    path = save(folders.root / "pool/x.png", 5, age=0)
    stamp = path.stat()
    ingest(folders)
    save(path, 6)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert path.stat().st_size == stamp.st_size
    assert ingest(folders).changed == 1


def test_another_label_is_no_other_content(folders):
    ingest(folders)
    (folders.root / "labels.csv").write_text("path,label\ntrain/cat/a.png,cat\n")
    audit = audit_of(folders.root, 'path = "labels.csv"\nsplit = "train"')
    ingest(audit)
    (folders.root / "labels.csv").write_text("path,label\ntrain/cat/a.png,dog\n")
    found = ingest(audit)
    assert (found.changed, found.relabelled, found.decoded) == (0, 1, 0)


def test_an_example_that_went_and_came_back_changed_shows_what_it_is_now(folders):
    path = folders.root / "pool/x.png"
    ingest(folders)
    path.unlink()
    ingest(folders)
    save(path, 77)
    ingest(folders)
    from scoring.data.images import decode

    assert decode(folders.thumbnails.get("pool/x.png")).getpixel((0, 0)) == 77


def test_an_open_page_sees_the_new_thumbnail_of_a_changed_example(folders):
    ingest(folders)
    store = folders.thumbnails
    before = store.get("pool/x.png")
    save(folders.root / "pool/x.png", 77)
    ingest(folders)
    assert store.get("pool/x.png") not in (None, before)


def test_another_loader_makes_other_thumbnails(folders):
    ingest(folders)
    code = folders.root / "code.py"
    code.write_text("import numpy as np\ndef load(path): return np.full((2, 2), 11, dtype=np.uint8)")
    audit = audit_of(folders.root, 'path = "pool"\nsplit = "pool"\nloader = "code.py:load"')
    assert ingest(audit).decoded == 1
    code.write_text(code.read_text().replace("11", "222"))
    found = ingest(audit)
    assert (found.decoded, found.changed) == (1, 0)
    from scoring.data.images import decode

    assert decode(audit.originals.get("pool/x.png")).getpixel((0, 0)) == 222


# --------------------------------------------------------------------------------------------------- problems


def test_broken_files_are_listed_with_their_reasons_and_stop_nothing(tmp_path):
    good = save(tmp_path / "train/cat/good.png", 1, (300, 300)).read_bytes()
    broken = {"empty.png": b"", "text.png": b"not a picture at all", "short.png": good[: len(good) // 2]}
    for name, data in broken.items():
        (tmp_path / "train/cat" / name).write_bytes(data)
    (tmp_path / "train/cat/folder.png").mkdir()
    (tmp_path / "train/cat/gone.png").symlink_to(tmp_path / "nowhere")
    save(tmp_path / "train/loose.png", 3)
    audit = audit_of(tmp_path, 'path = "train"\nsplit = "train"')
    found = ingest(audit)
    problems = {problem["example_id"].rpartition("/")[2]: problem["problem"] for problem in found.problems}
    assert problems.keys() == {"empty.png", "text.png", "short.png", "folder.png", "gone.png", "loose.png"}
    assert "empty" in problems["empty.png"] and "not an image" in problems["text.png"]
    assert "damaged" in problems["short.png"] and "folder" in problems["folder.png"]
    assert "no such file" in problems["gone.png"] and "class folder" in problems["loose.png"]
    examples = read_examples(audit).set_index("example_id")
    assert examples["problem"].notna().sum() == 6
    assert examples["problem"].isna()["train/cat/good.png"]
    assert audit.thumbnails.get("train/loose.png"), "it can be looked at, to be put where it belongs"


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    from pathlib import Path

    save(tmp_path / "train/cat/a.png")
    save(tmp_path / "train/cat/b.png")
    read = Path.read_bytes

    def refuse(path):
        if path.name == "b.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert ingest(audit_of(tmp_path, 'path = "train"\nsplit = "train"')).problems[0]["problem"] == "permission denied"


def test_a_repaired_file_is_no_problem_any_more(tmp_path):
    save(tmp_path / "train/cat/a.png")
    (tmp_path / "train/cat/b.png").write_bytes(b"")
    audit = audit_of(tmp_path, 'path = "train"\nsplit = "train"')
    assert len(ingest(audit).problems) == 1
    save(tmp_path / "train/cat/b.png")
    assert not ingest(audit).problems
    assert audit.thumbnails.get("train/cat/b.png")


def test_values_that_are_no_numbers_are_a_problem(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.where(np.arange(8).reshape(2, 2, 2) == 5, np.nan, 1.0))
    found = ingest(audit_of(tmp_path, 'path = "a.npz"\nsplit = "pool"'))
    assert [problem["problem"] for problem in found.problems] == ["1 of its values are missing or not finite"]


def test_examples_without_a_label_are_listed(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(8).reshape(2, 2, 2), y=[0, -1])
    found = ingest(audit_of(tmp_path, 'path = "a.npz"\nsplit = "train"'))
    assert found.splits["train"]["unlabelled"] == 1
    assert "has no label" in found.problems[0]["problem"]


def test_a_loader_that_never_works_is_an_error(folders):
    (folders.root / "code.py").write_text("def load(path): raise RuntimeError('no licence')")
    audit = audit_of(folders.root, 'path = "train"\nsplit = "train"\nloader = "code.py:load"')
    with pytest.raises(HardlookError, match="none of the 3 examples can be read.*RuntimeError: no licence"):
        ingest(audit)


def test_a_folder_that_is_no_class_lists_the_classes(folders):
    save(folders.root / "train/bird/a.png")
    with pytest.raises(HardlookError, match="'train/bird/a.png' in data.0.: 'bird' is not in classes .'cat', 'dog'"):
        ingest(folders)
    assert not folders.examples_path.exists()


def test_without_classes_the_error_is_the_line_to_paste(folders):
    audit = audit_of(folders.root, 'path = "train"\nsplit = "train"', classes=())
    with pytest.raises(HardlookError, match=r'order of the model\'s outputs:\nclasses = \["cat", "dog"\]'):
        ingest(audit)


def test_no_examples_at_all_is_an_error(tmp_path):
    (tmp_path / "train/cat").mkdir(parents=True)
    (tmp_path / "train/cat/a.txt").write_text("x")
    with pytest.raises(HardlookError, match="hold no examples; skipped files of other types: cat/a.txt"):
        ingest(audit_of(tmp_path, 'path = "train"\nsplit = "train"'))


def test_sources_of_vectors_must_agree_on_their_columns(tmp_path):
    (tmp_path / "a.csv").write_text("a,b,label\n1,2,cat\n")
    (tmp_path / "b.csv").write_text("b,a,label\n1,2,cat\n")
    with pytest.raises(HardlookError, match="all sources need the same"):
        ingest(audit_of(tmp_path, 'path = "a.csv"\nsplit = "train"', 'path = "b.csv"\nsplit = "test"', media="vector"))


@pytest.mark.parametrize(
    ("link", "to"), [("cat/loop", ".."), ("aaa", "cat"), ("aaa", "."), ("cat/self", "../cat"), ("bird", "bird")]
)
def test_a_folder_that_is_linked_into_itself_is_read_once_under_its_own_name(folders, link, to):
    (folders.root / "train" / link).symlink_to(to)
    ingest(folders)
    assert ids(folders)[:3] == ["train/cat/a.png", "train/cat/b.png", "train/dog/a.png"] and len(ids(folders)) == 5


@pytest.mark.parametrize("path", ["self", "{root}/self", "one"])
def test_data_that_is_a_link_to_itself_is_one_sentence(tmp_path, path):
    for name, to in (("self", "self"), ("one", "two"), ("two", "one")):
        (tmp_path / name).symlink_to(to)
    for adapter in ("", 'adapter = "folder"\n', 'adapter = "manifest"\n'):
        audit = audit_of(tmp_path, f'path = "{path.format(root=tmp_path)}"\n{adapter}split = "train"')
        with pytest.raises(HardlookError, match=r"data.0..path = .*leads back to itself"):
            ingest(audit)


def test_a_picture_that_is_a_link_to_itself_is_that_examples_problem(folders):
    (folders.root / "train/cat/c.png").symlink_to("c.png")
    assert ingest(folders).problems == [{"example_id": "train/cat/c.png", "problem": "its link leads back to itself"}]


# ------------------------------------------------------------------------------------------------------ kills

KILLED = """
import itertools, sys, time
from scoring.data import example_reader as reading
from scoring.audit import Audit
from scoring.data.ingest import ingest
reading.PART_EXAMPLES = 50
read, count = reading._read, itertools.count()
def stopping(*arguments):
    if next(count) >= 400:
        time.sleep(3600)  # until it is killed
    read(*arguments)
reading._read = stopping
ingest(Audit.open(sys.argv[1]), workers=1)  # a second thread could reach the 400th before the first part is whole
"""


def test_a_killed_ingest_continues_and_ends_with_the_same_files(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", x=rng.integers(0, 256, (600, 4, 4), dtype=np.uint8), y=rng.integers(0, 2, 600))
    audit = audit_of(tmp_path, 'path = "a.npz"\nsplit = "train"')
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    deadline = time.time() + 300
    while len(list(audit.ingest_folder.glob("part-*.parquet"))) < 3 and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not audit.examples_path.exists()
    found = ingest(audit)
    assert 0 < found.decoded <= 450, "what was written before the kill is not made again"
    assert audit.thumbnails.ids() == audit.originals.ids() == set(ids(audit)) and len(ids(audit)) == 600

    fresh = audit_of(tmp_path / "fresh", f'path = "{tmp_path / "a.npz"}"\nsplit = "train"')
    ingest(fresh)
    assert read_examples(fresh).equals(read_examples(audit))
    assert all(fresh.thumbnails.get(each) == audit.thumbnails.get(each) for each in ids(audit)[::50])


def test_half_written_memory_is_forgotten_not_trusted(folders):
    ingest(folders)
    (folders.ingest_folder / "known.parquet").write_bytes(b"half")
    assert ingest(folders).decoded == 5
    folders.examples_path.write_bytes(b"half")
    ingest(folders)
    assert len(ids(folders)) == 5


def test_deleted_thumbnails_are_made_again(folders):
    ingest(folders)
    BlobStore(folders.root / "thumbnails.arrow").clear()
    assert ingest(folders).decoded == 5
    assert folders.thumbnails.ids() == set(ids(folders))


def test_a_second_ingest_at_the_same_time_leaves(folders):
    from filelock import FileLock

    folders.ingest_folder.mkdir(parents=True)
    with FileLock(folders.ingest_folder / ".lock"), pytest.raises(HardlookError, match="another hardlook command"):
        ingest(folders)


def test_reading_the_data_loads_no_torch(folders):
    code = (
        "import sys; from scoring.audit import Audit; from scoring.data.ingest import ingest; "
        f"ingest(Audit.open({str(folders.root)!r})); print([n for n in ('torch', 'sklearn', 'ray') if n in "
        f"sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_summary_is_json_whatever_the_names_hold(tmp_path):
    save(tmp_path / "train/ünï 'x' \"y\"/a.png")
    audit = audit_of(tmp_path, 'path = "train"\nsplit = "train"', classes=("ünï 'x' \"y\"",))
    ingest(audit)
    assert "ünï 'x' \"y\"" in json.loads(audit.ingest_path.read_text())["splits"]["train"]["classes"]


def test_a_manifest_whose_pictures_lie_elsewhere_says_where_it_looked_and_which_key_moves_it(tmp_path):
    save(tmp_path / "img/a.png")
    (tmp_path / "train.csv").write_text("path,label\na.png,cat\n", encoding="utf8")
    with pytest.raises(HardlookError) as caught:
        ingest(audit_of(tmp_path, 'path = "train.csv"\nsplit = "train"'))
    assert f"there is no file {tmp_path / 'a.png'}; relative paths start at" in str(caught.value)
    assert '`folder = "…"` in its [[data]] table' in str(caught.value)
    found = ingest(audit_of(tmp_path, 'path = "train.csv"\nsplit = "train"\nfolder = "img"'))
    assert found.problems == [] and not any("no file" in note for note in found.notes)


def test_a_manifest_beside_one_that_is_readable_has_its_missing_files_noted(tmp_path):
    save(tmp_path / "a.png")
    for name, cell in (("train", "a.png"), ("test", "b.png")):
        (tmp_path / f"{name}.csv").write_text(f"path,label\n{cell},cat\n", encoding="utf8")
    found = ingest(audit_of(tmp_path, 'path = "train.csv"\nsplit = "train"', 'path = "test.csv"\nsplit = "test"'))
    assert [note for note in found.notes if f"data[1]: there is no file {tmp_path / 'b.png'}" in note]
