"""scoring.data.adapters.label_studio: exports that Label Studio 1.23.2 wrote, as JSON, JSON-MIN and CSV."""

import csv
import json
from pathlib import Path

import pytest

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table
from scoring.data.ingest import ingest

from .tools import FILES, kept, source_of

VERSION = "label-studio-1.23.2"
CLASSES = ["cat", "dog", "Großer Panda"]
TASKS = json.loads((FILES / VERSION / "tasks.json").read_text(encoding="utf8"))
NAMES = {task["id"]: Path(task["data"]["image"]).name for task in TASKS}
WHOLE = 'split = "train"\nfolder = "data/media"\n'


def by_task(listing):
    """Number of the task → (label, problem)."""
    labels = zip(listing.metadata["task"].to_pylist(), listing.labels, strict=True)
    return {int(task): (label, listing.problems.get(row)) for row, (task, label) in enumerate(labels)}


@pytest.mark.parametrize("file", ["tasks.json", "tasks-min.json", "tasks.csv"])
def test_labels_are_what_annotators_agree_on_and_disputes_are_problems(tmp_path, file):
    kept(tmp_path, VERSION)
    listing = source_of(tmp_path, f'path = "data/{file}"\n{WHOLE}', CLASSES).listing()
    found = by_task(listing)
    assert found[1] == ("cat", None) and found[6] == ("Großer Panda", None)
    assert found[2][0] is None and "annotators differ: 'cat' (1), 'dog' (2)" in found[2][1]
    assert found[3][0] is None and "'cat', 'dog' (multi-label)" in found[3][1]
    numbers = [int(task) for task in listing.metadata["task"].to_pylist()]
    ana, bo = (dict(zip(numbers, listing.metadata[f"annotator_{who}"].to_pylist(), strict=True)) for who in (1, 2))
    assert (ana[2], bo[2], ana[3], bo[6], ana[6]) == ("cat", "dog", "cat, dog", "Großer Panda", None)
    assert {Path(path).name for path in listing.paths} >= {NAMES[1], NAMES[2]}
    assert all(Path(path).is_file() for path in listing.paths)
    if file == "tasks.json":
        assert found[5] == ("dog", None), "the ground truth settles what annotators dispute"
        assert found[4] == (None, None) and found[7] == (None, None), "skipped, and not yet annotated"
    else:
        assert "annotators differ" in found[5][1], "these formats do not say what is ground truth"


def test_the_files_are_the_uploaded_ones(tmp_path):
    kept(tmp_path, VERSION)
    listing = source_of(tmp_path, f'path = "data/tasks.json"\n{WHOLE}', CLASSES).listing()
    for task, path in zip(TASKS, listing.paths, strict=True):
        assert path == str(tmp_path / "data/media" / task["data"]["image"].removeprefix("/data/"))


@pytest.mark.parametrize("rule, label", [("last", "dog"), ("majority", None)])
def test_a_rule_can_settle_what_annotators_dispute(tmp_path, rule, label):
    kept(tmp_path, VERSION)
    listing = source_of(tmp_path, f'path = "data/tasks.json"\n{WHOLE}several = "{rule}"', CLASSES).listing()
    assert by_task(listing)[2][0] == label, "one vote each is no majority"


def test_the_majority_settles_two_against_one(tmp_path):
    folder = kept(tmp_path, VERSION)
    tasks = json.loads((folder / "tasks.json").read_text())
    second = next(task for task in tasks if task["id"] == 2)
    second["annotations"].append({**second["annotations"][0], "id": 99, "completed_by": {"id": 3, "email": "c@x.org"}})
    (folder / "tasks.json").write_text(json.dumps(tasks))
    listing = source_of(tmp_path, f'path = "data/tasks.json"\n{WHOLE}several = "majority"', CLASSES).listing()
    assert by_task(listing)[2] == ("cat", None)
    assert listing.metadata["annotator_c@x.org"].drop_null().to_pylist() == ["cat"]


def test_the_last_annotation_of_an_annotator_counts(tmp_path):
    folder = kept(tmp_path, VERSION)
    tasks = json.loads((folder / "tasks.json").read_text())
    second = next(task for task in tasks if task["id"] == 2)
    changed = next(each for each in second["annotations"] if each["completed_by"] == 2)
    changed = json.loads(json.dumps(changed)) | {"id": 98, "updated_at": "2099-01-01T00:00:00Z"}
    changed["result"][0]["value"]["choices"] = ["cat"]
    second["annotations"].insert(0, changed)
    (folder / "tasks.json").write_text(json.dumps(tasks))
    listing = source_of(tmp_path, f'path = "data/tasks.json"\n{WHOLE}', CLASSES).listing()
    assert by_task(listing)[2] == ("cat", None)


def test_an_address_of_another_machine_is_refused_and_local_files_are_found(tmp_path):
    folder = kept(tmp_path, VERSION)
    tasks = json.loads((folder / "tasks.json").read_text())
    tasks[0]["data"]["image"] = "s3://bucket/a.png"
    tasks[1]["data"]["image"] = f"/data/local-files/?d=upload/1/{NAMES[2].replace(' ', '%20')}"
    (folder / "tasks.json").write_text(json.dumps(tasks))
    listing = source_of(tmp_path, f'path = "data/tasks.json"\n{WHOLE}several = "last"', CLASSES).listing()
    assert "s3://bucket/a.png is not a file of this machine" in listing.problems[0]
    assert listing.paths[1] == str(tmp_path / "data/media/upload/1" / NAMES[2])


def test_two_controls_need_a_choice_and_an_unknown_rule_is_refused(tmp_path):
    folder = kept(tmp_path, VERSION)
    tasks = json.loads((folder / "tasks.json").read_text())
    result = tasks[0]["annotations"][0]["result"]
    result.append({**result[0], "from_name": "mood", "value": {"choices": ["calm"]}})
    (folder / "tasks.json").write_text(json.dumps(tasks))
    table = f'path = "data/tasks.json"\n{WHOLE}'
    with pytest.raises(HardlookError, match="needs control, the Choices that hold the label; .* has animal, mood"):
        source_of(tmp_path, table, CLASSES).listing()
    assert by_task(source_of(tmp_path, f'{table}control = "mood"', ["calm"]).listing())[1][0] == "calm"
    with pytest.raises(HardlookError, match="several = 'first'; needed one of agree, last, majority"):
        source_of(tmp_path, f'{table}several = "first"', CLASSES).listing()


def test_a_choice_about_a_region_is_no_label_of_the_picture(tmp_path):
    folder = kept(tmp_path, VERSION)
    tasks = json.loads((folder / "tasks.json").read_text())
    result = tasks[0]["annotations"][0]["result"]
    box = {"x": 1, "y": 2, "width": 3, "height": 4, "choices": ["dog"]}
    result.append({**result[0], "value": box})
    (folder / "tasks.json").write_text(json.dumps(tasks))
    listing = source_of(tmp_path, f'path = "data/tasks.json"\n{WHOLE}', CLASSES).listing()
    assert by_task(listing)[1] == ("cat", None)


def test_an_audit_reads_the_export_and_keeps_what_annotators_said(tmp_path):
    kept(tmp_path, VERSION)
    source_of(tmp_path, f'path = "data/tasks.json"\n{WHOLE}', CLASSES)
    ingest(Audit.open(tmp_path))
    rows = read_table(tmp_path / "examples.parquet").to_pandas().set_index("meta.task")
    assert rows.loc["5", "label"] == "dog" and rows.loc["5", "meta.annotator_1"] == "cat"
    assert rows.loc["5", "fingerprint"] and "annotators differ" in rows.loc["2", "problem"]
    assert "has no annotation with a choice" in rows.loc["7", "problem"]


def test_a_table_with_keys_of_a_manifest_stays_one(tmp_path):
    folder = kept(tmp_path, VERSION)
    source = source_of(tmp_path, 'path = "data/tasks.csv"\nsplit = "train"\nlabel_column = "animal"', CLASSES)
    assert source.name == "manifest"
    with open(folder / "tasks.csv", newline="", encoding="utf8") as file:
        assert source.listing().labels == [row["animal"] for row in csv.DictReader(file)]


def test_texts_are_read_from_the_tasks(tmp_path):
    tasks = [
        {"id": at, "data": {"text": word}, "annotations": [{"id": at, "completed_by": 1, "result": [
            {"type": "choices", "from_name": "mood", "to_name": "text", "value": {"choices": [label]}}]}]}
        for at, (word, label) in enumerate([("well", "good"), ("oh no", "bad")])
    ]  # fmt: skip
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    source = source_of(tmp_path, 'path = "tasks.json"\nsplit = "train"', ["good", "bad"], media="text")
    assert source.listing().labels == ["good", "bad"] and source.stored(1) == "oh no"
