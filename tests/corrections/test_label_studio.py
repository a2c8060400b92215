"""Tasks for Label Studio and its answers: files that Label Studio 1.23.2 imported and exported."""

import json
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table
from scoring.corrections.imported_reviews import checked, import_answers, read_answers
from scoring.corrections.label_studio_answers import meaning
from scoring.corrections.label_studio_tasks import label_studio
from scoring.data.ingest import ingest
from scoring.reviews import Event, ReviewLog

from ..conftest import hardlook

KEPT = Path(__file__).parents[1] / "data" / "tool_files" / "label-studio-1.23.2-review"
USUAL = {"id": None, "label": None, "reviewer": None}


@pytest.fixture
def audit(tmp_path):
    """The audit that the kept tasks were made of, read again."""
    shutil.copytree(KEPT, tmp_path / "review")
    found = Audit.open(tmp_path / "review")
    ingest(found)
    return found


def log_of(audit):
    return ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url))


def decided(audit):
    """(example, reviewer) → (verdict, new label, labels)."""
    with log_of(audit) as log:
        rows = log.decisions()
    return {
        (row.example_id, row.reviewer): (row.verdict, None if pd.isna(row.new_label) else row.new_label, row.labels)
        for row in rows.itertuples()
    }


def said_in_json():
    """What the kept JSON says, read without hardlook: (example, annotator) → (classes, outside, skipped, given)."""
    found = {}
    for task in json.loads((KEPT / "answers.json").read_text(encoding="utf8")):
        for each in task["annotations"]:
            chosen = {one["from_name"]: one["value"]["choices"] for one in each["result"]}
            found[task["data"]["example_id"], str(each["completed_by"])] = (
                chosen.get("label", []),
                chosen.get("no_class", []),
                each["was_cancelled"],
                task["data"]["given_label"],
            )
    return found


def test_each_answer_becomes_the_verdict_that_it_means(audit):
    assert hardlook("import-reviews", str(audit.root), str(audit.root / "answers.json")) == 0
    found, said = decided(audit), said_in_json()
    verdicts = []
    for who, (classes, outside, skipped, given) in said.items():
        if not classes and not outside and not skipped:
            assert who not in found, "an annotation without a choice says nothing"
        elif skipped or outside == ["not sure"]:
            assert found[who] == ("unsure", None, ())
        elif outside:
            assert found[who] == ("none", None, ())
        elif len(classes) > 1:
            assert found[who] == ("several", None, tuple(classes))
        else:
            assert found[who] == (("given", None, ()) if classes == [given] else ("other", classes[0], ()))
        verdicts.append(found.get(who, (None,))[0])
    assert {*verdicts} == {"given", "other", "several", "none", "unsure", None}
    with log_of(audit) as log:
        status = log.consensus().set_index("example_id")["status"]
        assert (status == "disputed").sum() == 1, "the two who read one example differ"
        assert log.decisions()["seconds"].eq(2.5).all()


@pytest.mark.parametrize("file", ["answers-min.json", "answers.csv"])
def test_the_flat_exports_say_the_same_apart_from_skipped_tasks(audit, file):
    hardlook("import-reviews", str(audit.root), str(audit.root / file))
    expected = {who for who, (classes, outside, skipped, _) in said_in_json().items() if (classes or outside)}
    found = decided(audit)
    assert {*found} == expected
    hardlook("import-reviews", str(audit.root), str(audit.root / "answers.json"), "--skipped", "ignore")
    with log_of(audit) as log:
        assert len(log.events()) == len(expected), "the same annotations in another format add nothing"


def test_the_same_file_twice_adds_nothing_and_a_later_one_adds_what_is_new(audit, capsys):
    whole = json.loads((audit.root / "answers.json").read_text(encoding="utf8"))
    first = audit.root / "first.json"
    first.write_text(json.dumps(whole[:4]), encoding="utf8")
    hardlook("import-reviews", str(audit.root), str(first))
    with log_of(audit) as log:
        before = len(log.events())
    for _ in range(2):
        hardlook("import-reviews", str(audit.root), str(audit.root / "answers.json"))
        hardlook("import-reviews", str(audit.root), str(first))
    with log_of(audit) as log:
        events = log.events()
    assert len(events) == len(decided(audit)) > before > 0
    assert not events.duplicated(["example_id", "reviewer"]).any()
    assert "imported 0 decisions" in capsys.readouterr().out


def test_an_import_does_not_undo_what_the_reviewer_said_since(audit):
    hardlook("import-reviews", str(audit.root), str(audit.root / "answers.json"), "--rename", "1=ana")
    example, _ = next(who for who, what in decided(audit).items() if what[0] == "other" and who[1] == "ana")
    with log_of(audit) as log:
        log.append([Event(client="tab", seq=1, example_id=example, reviewer="ana", action="decide", verdict="none")])
    hardlook("import-reviews", str(audit.root), str(audit.root / "answers.json"), "--rename", "1=ana")
    assert decided(audit)[example, "ana"][0] == "none"


def test_a_changed_annotation_replaces_the_earlier_one(audit):
    hardlook("import-reviews", str(audit.root), str(audit.root / "answers.json"))
    tasks = json.loads((audit.root / "answers.json").read_text(encoding="utf8"))
    task = next(each for each in tasks if len(each["annotations"]) == 1 and each["annotations"][0]["result"])
    task["annotations"][0]["updated_at"] = "2099-01-01T00:00:00Z"
    task["annotations"][0]["result"] = [
        {"from_name": "no_class", "to_name": "item", "type": "choices", "value": {"choices": ["not sure"]}}
    ]
    (audit.root / "later.json").write_text(json.dumps(tasks), encoding="utf8")
    before = decided(audit)
    hardlook("import-reviews", str(audit.root), str(audit.root / "later.json"))
    who = task["data"]["example_id"], str(task["annotations"][0]["completed_by"])
    assert decided(audit) == before | {who: ("unsure", None, ())}


def test_nothing_is_imported_where_one_example_changed_or_is_unknown(audit, capsys):
    first, second = (task["data"]["example_id"] for task in tasks_of(audit)[:2])
    (audit.root / first).write_bytes((audit.root / "pool/8.png").read_bytes() + b"0")
    ingest(audit)
    answers = tasks_of(audit)
    next(task for task in answers if task["data"]["example_id"] == second)["data"]["example_id"] = "gone.png"
    (audit.root / "answers.json").write_text(json.dumps(answers), encoding="utf8")
    assert hardlook("import-reviews", str(audit.root), str(audit.root / "answers.json")) == 1
    error = capsys.readouterr().err
    assert "answers cannot be imported, and nothing was" in error and not decided(audit)
    hardlook("import-reviews", str(audit.root), str(audit.root / "answers.json"), "--leave-out")
    shown = capsys.readouterr().out
    assert "the example changed since the file was written" in shown and "the audit has no such example" in shown
    assert decided(audit) and not {first, second} & {example for example, _ in decided(audit)}


def tasks_of(audit):
    """The kept answers, those with annotations first."""
    tasks = json.loads((audit.root / "answers.json").read_text(encoding="utf8"))
    return sorted(tasks, key=lambda task: not any(each["result"] for each in task["annotations"]))


def test_an_unknown_class_is_refused_with_its_near_names(audit, capsys):
    text = (audit.root / "answers.json").read_text(encoding="utf8").replace('"choices": ["cat"', '"choices": ["kat"')
    text = text.replace('"choices":["cat"', '"choices":["kat"')
    (audit.root / "answers.json").write_text(text, encoding="utf8")
    assert hardlook("import-reviews", str(audit.root), str(audit.root / "answers.json")) == 1
    assert "'kat' is no class of this audit" in capsys.readouterr().err and not decided(audit)


def test_a_plain_table_is_read_by_its_columns(audit, tmp_path):
    table = tmp_path / "answers.csv"
    table.write_text(
        "file,class,who,verdict,note\n"
        "train/cat/0 ä.png,cat,ana,,\n"
        "train/cat/3 ä.png,dog & co,ana,,blurred\n"
        'train/cat/0 ä.png,"[""cat"", ""dog & co""]",bo,,\n'
        "train/cat/3 ä.png,,bo,none,\n"
        "pool/8.png,cat,bo,,\n"
        "pool/9.png,,bo,,\n",
        encoding="utf8",
    )
    arguments = ["--id-column", "file", "--label-column", "class", "--reviewer-column", "who"]
    for _ in range(2):
        assert hardlook("import-reviews", str(audit.root), str(table), *arguments) == 0
    assert decided(audit) == {
        ("train/cat/0 ä.png", "ana"): ("given", None, ()),
        ("train/cat/3 ä.png", "ana"): ("other", "dog & co", ()),
        ("train/cat/0 ä.png", "bo"): ("several", None, ("cat", "dog & co")),
        ("train/cat/3 ä.png", "bo"): ("none", None, ()),
        ("pool/8.png", "bo"): ("other", "cat", ()),
    }
    with log_of(audit) as log:
        assert len(log.events()) == 5 and log.decisions()["note"].dropna().tolist() == ["blurred"]
        fingerprints = read_table(audit.examples_path).to_pandas().set_index("example_id")["fingerprint"]
        rows = log.decisions()
        assert (rows["fingerprint"] == rows["example_id"].map(fingerprints)).all()


def test_a_table_that_repeats_an_answer_adds_nothing(audit, tmp_path):
    for name, more in (("1", ""), ("2", "train/cat/3 ä.png,cat,ana\n")):
        text = f"example_id,label,reviewer\ntrain/cat/0 ä.png,cat,ana\n{more}"
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf8")
        hardlook("import-reviews", str(audit.root), str(tmp_path / f"{name}.csv"))
    with log_of(audit) as log:
        assert log.events()["example_id"].tolist() == ["train/cat/0 ä.png", "train/cat/3 ä.png"]


def test_the_label_that_was_shown_decides_what_an_answer_means(audit):
    """The dataset's label may have been corrected since the tasks were written."""
    task = next(each for each in tasks_of(audit) if len(each["annotations"]) == 1)
    shown = next(name for name in ("cat", "dog & co") if name != task["data"]["given_label"])
    task["data"]["given_label"] = shown
    task["annotations"][0]["result"] = [
        {"from_name": "label", "to_name": "item", "type": "choices", "value": {"choices": [shown]}}
    ]
    (audit.root / "answers.json").write_text(json.dumps([task]), encoding="utf8")
    hardlook("import-reviews", str(audit.root), str(audit.root / "answers.json"))
    with log_of(audit) as log:
        (row,) = log.decisions().to_dict("records")
    label = read_table(audit.examples_path).to_pandas().set_index("example_id")["label"]
    assert (row["verdict"], row["label"]) == ("given", shown)
    assert label[row["example_id"]] != row["label"]


def test_answers_that_change_and_change_back_in_tables_are_all_kept(audit, tmp_path):
    for name, label in (("1", "cat"), ("2", "dog & co"), ("3", "cat")):
        (tmp_path / f"{name}.csv").write_text(
            f"example_id,label,reviewer,note\ntrain/cat/0 ä.png,{label},ana,{name}\n", encoding="utf8"
        )
        hardlook("import-reviews", str(audit.root), str(tmp_path / f"{name}.csv"))
    assert decided(audit)["train/cat/0 ä.png", "ana"] == ("given", None, ())
    for name in "123":
        hardlook("import-reviews", str(audit.root), str(tmp_path / f"{name}.csv"))
    with log_of(audit) as log:
        assert log.events()["verdict"].tolist() == ["given", "other", "given"]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("example_id,label\na,b\n", "has no column 'reviewer' (reviewer)"),
        ("example_id,label,reviewer\ntrain/cat/0 ä.png,cat,\n", "row 1 has no reviewer"),
        (
            "example_id,label,reviewer\ntrain/cat/0 ä.png,cat,a\ntrain/cat/0 ä.png,dog & co,a\n",
            "row 1 and row 2 are different answers of 'a'",
        ),
        ("example_id,label,reviewer,verdict\ntrain/cat/0 ä.png,cat,a,right\n", "has verdict 'right'; needed one of"),
        ("example_id,label,reviewer,verdict\ntrain/cat/0 ä.png,cat,a,none\n", "verdict 'none' contradicts the label"),
        ("example_id,label,reviewer,verdict\ntrain/cat/0 ä.png,,a,other\n", "verdict 'other' contradicts the label"),
    ],
)
def test_a_table_that_is_wrong_is_refused_whole(audit, tmp_path, capsys, text, reason):
    (tmp_path / "a.csv").write_text(text, encoding="utf8")
    assert hardlook("import-reviews", str(audit.root), str(tmp_path / "a.csv")) == 1
    assert reason in capsys.readouterr().err and not decided(audit)


def test_contradictory_choices_are_refused():
    with pytest.raises(HardlookError, match="'cat', 'no class fits' contradict each other"):
        meaning("cat", ["cat"], ["no class fits"])


def test_two_imports_at_once_write_one_set_of_events(audit):
    answers = checked(audit, read_answers(audit.root / "answers.json", USUAL)).decisions
    with log_of(audit) as one, log_of(audit) as two:
        before = one.events()
        assert not len(before)
        import_answers(one, audit.root / "answers.json", answers)
        assert import_answers(two, audit.root / "answers.json", answers).new == 0
        assert len(two.events()) == len(answers)


# -- tasks ------------------------------------------------------------------------------------------


def export(audit, out, *arguments):
    hardlook("import-predictions", str(audit.root), str(audit.root / "predictions.csv"))
    assert hardlook("export", str(audit.root), "--format", "label-studio", "--out", str(out), *arguments) == 0
    return {split: json.loads((out / f"label-studio-{split}.json").read_text()) for split in ("train", "pool")}


def test_the_tasks_are_the_ones_that_label_studio_imported(audit, tmp_path):
    made = export(audit, tmp_path / "out")
    for split, tasks in made.items():
        kept = json.loads((KEPT / f"label-studio-{split}.json").read_text(encoding="utf8"))
        for task in (*tasks, *kept):
            task["data"]["image"] = task["data"]["image"].split("?d=")[1].partition("/")[2]
        assert tasks == kept
    assert (tmp_path / "out/label-studio.xml").read_text() == (KEPT / "label-studio.xml").read_text()


def test_tasks_come_most_suspicious_first_and_as_many_as_asked(audit, tmp_path):
    tasks = export(audit, tmp_path / "out", "--most", "3")["train"]
    scores = read_table(audit.run().score_path("suspicion")).to_pandas().set_index("example_id")["suspicion"]
    train = scores[scores.index.str.startswith("train/")].sort_values(ascending=False)
    assert [task["data"]["example_id"] for task in tasks] == train.index[:3].tolist()
    p = pd.read_csv(audit.root / "predictions.csv").set_index("example_id")
    for task in tasks:
        prediction, row = task["predictions"][0], p.loc[task["data"]["example_id"]]
        other = row.drop(task["data"]["given_label"])
        assert prediction["result"][0]["value"]["choices"] == [other.idxmax()]
        assert prediction["score"] == pytest.approx(other.max(), abs=1e-6)


def test_a_blind_test_split_has_no_predictions_and_no_order(audit, tmp_path):
    config = audit.root / "audit.toml"
    config.write_text(config.read_text().replace('"train"\npath', '"test"\npath', 1) + '\n[policy]\ntest = "blind"\n')
    audit = Audit.open(audit.root)
    ingest(audit)
    hardlook("import-predictions", str(audit.root), str(audit.root / "predictions.csv"))
    with log_of(audit) as log:
        label_studio(audit, audit.run(), log, tmp_path / "out")
    tasks = json.loads((tmp_path / "out/label-studio-test.json").read_text())
    assert len(tasks) == 8 and not any("predictions" in task for task in tasks)
    scores = read_table(audit.run().score_path("suspicion")).to_pandas().set_index("example_id")["suspicion"]
    order = [scores[task["data"]["example_id"]] for task in tasks]
    assert order != sorted(order, reverse=True)
    assert all("predictions" in task for task in json.loads((tmp_path / "out/label-studio-pool.json").read_text()))


def test_what_is_exported_and_answered_is_a_source_again(audit, tmp_path):
    """The adapter reads the answers as labels under the same ids."""
    (tmp_path / "again").mkdir()
    (tmp_path / "again/audit.toml").write_text(
        'format = 1\nclasses = ["cat", "dog & co", "Großer Panda"]\n[[data]]\nsplit = "train"\n'
        'path = "../review/answers.json"\nfolder = ".."\n',
        encoding="utf8",
    )
    for file in (audit.root / "answers.json",):
        file.write_text(file.read_text(encoding="utf8").replace("?d=label-studio-1.23.2-review", "?d=review"))
    again = Audit.open(tmp_path / "again")
    ingest(again)
    rows = read_table(again.examples_path).to_pandas().set_index("example_id")
    before = read_table(audit.examples_path).to_pandas().set_index("example_id")
    assert {*rows.index} == {*before.index}
    read = rows[rows["problem"].isna()]
    once = {who: label[0] for (who, _), (label, outside, _, _) in said_in_json().items() if len(label) == 1}
    once = {who: label for who, label in once.items() if sum(who == other for other, _ in said_in_json()) == 1}
    assert read["label"].to_dict() == once and len(once) == 2
    assert (read["fingerprint"] == before.loc[read.index, "fingerprint"]).all()


def test_pictures_that_no_browser_shows_or_that_are_no_files_lie_beside_the_tasks(tmp_path):
    noise = np.random.default_rng(1).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    (tmp_path / "train/a").mkdir(parents=True)
    Image.fromarray(noise[0]).save(tmp_path / "train/a/0.tif")
    Image.fromarray(noise[1]).save(tmp_path / "train/a/1.png")
    np.savez(tmp_path / "pool.npz", x=noise[2:])
    (tmp_path / "audit.toml").write_text(
        'format = 1\nclasses = ["a"]\n[[data]]\nsplit = "train"\npath = "train"\n'
        '[[data]]\nsplit = "pool"\npath = "pool.npz"\n'
    )
    made = Audit.open(tmp_path)
    ingest(made)
    with log_of(made) as log:
        written = label_studio(made, None, log, tmp_path / "out")
    found = {}
    for split in ("train", "pool"):
        for task in json.loads((tmp_path / f"out/label-studio-{split}.json").read_text()):
            assert "predictions" not in task, "there is no run that could suggest a label"
            inside = unquote(task["data"]["image"].removeprefix("/data/local-files/?d="))
            found[task["data"]["example_id"]] = written.storage.parent / inside
    for (example, path), picture in zip(sorted(found.items(), key=lambda item: item[0] < "a"), noise, strict=True):
        assert path.suffix == ".png" and example
        np.testing.assert_array_equal(np.asarray(Image.open(path)), picture)
    assert found["train/a/1.png"] == tmp_path / "train/a/1.png"
    assert found["train/a/0.tif"].parent == tmp_path / "out/label-studio-pictures"


def test_what_a_loader_reads_is_what_reviewers_see(tmp_path):
    noise = np.random.default_rng(1).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    (tmp_path / "train/a").mkdir(parents=True)
    Image.fromarray(noise).save(tmp_path / "train/a/0.png")
    (tmp_path / "load.py").write_text(
        "import numpy\nfrom PIL import Image\n\n\ndef read(path):\n    return 255 - numpy.array(Image.open(path))\n"
    )
    (tmp_path / "audit.toml").write_text(
        'format = 1\nclasses = ["a"]\n[[data]]\nsplit = "train"\npath = "train"\nloader = "load.py:read"\n'
    )
    made = Audit.open(tmp_path)
    ingest(made)
    with log_of(made) as log:
        written = label_studio(made, None, log, tmp_path / "out")
    (task,) = json.loads((tmp_path / "out/label-studio-train.json").read_text())
    place = written.storage.parent / unquote(task["data"]["image"].removeprefix("/data/local-files/?d="))
    np.testing.assert_array_equal(np.asarray(Image.open(place)), 255 - noise)
