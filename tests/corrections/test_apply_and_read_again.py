"""A corrected folder is read again: each decision is still about its example, and every export names it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from scoring.audit import Audit
from scoring.commands.console import read_data
from scoring.corrections.label_patch import read_patch
from scoring.data.examples import read_examples, truth
from scoring.reviews import Event, ReviewLog

from ..conftest import hardlook

N = 24
AUDIT = """format = 1
classes = ["cat", "dog"]

[[data]]
path = "train"
split = "train"

[truth]
path = "truth.csv"
"""


@pytest.fixture
def audit(tmp_path):
    """Cats 0 to 23, of which the even ones are dogs: 0 to 15 are decided, 1 is a bad image."""
    (tmp_path / "train/dog").mkdir(parents=True)
    (tmp_path / "train/cat").mkdir()
    for number in range(N):
        picture = np.random.default_rng(number).integers(0, 255, (6, 6), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"train/cat/{number}.png")
    shutil.copy(tmp_path / "train/cat/7.png", tmp_path / "train/dog/4.png")  # a name that a corrected file will want
    rows = "".join(f"train/cat/{number}.png,{'cat' if number % 2 else 'dog'}\n" for number in range(N))
    (tmp_path / "truth.csv").write_text("example_id,true_label\n" + rows)
    (tmp_path / "audit.toml").write_text(AUDIT)
    made = Audit.open(tmp_path)
    read_data(made)
    prints = read_examples(made).set_index("example_id")["fingerprint"]
    with ReviewLog.open(made.log_url, audit=made.log_name(made.log_url)) as log:
        for number in range(16):
            own = f"train/cat/{number}.png"
            says = {"verdict": "given"} if number % 2 else {"verdict": "other", "new_label": "dog"}
            issues = {"issues": ["bad image"]} if number == 1 else {}
            log.append(
                [
                    Event(
                        client="c",
                        seq=number + 1,
                        example_id=own,
                        fingerprint=prints[own],
                        label="cat",
                        reviewer="ada",
                        action="decide",
                        **says,
                        **issues,
                    )
                ]
            )
    return made


def exported(audit, capsys):
    """The patch as it is now, and what the command said."""
    assert hardlook("export", audit.root) == 0
    said = capsys.readouterr().out
    return read_patch(audit.exports_folder / "patch-train.csv").set_index("example_id"), said


def test_nothing_is_left_out_after_a_patch_was_applied_and_the_data_read_again(audit, capsys):
    before, _ = exported(audit, capsys)
    assert hardlook("apply", audit.exports_folder / "patch-train.csv", audit.root / "train") == 0
    assert "renamed to dog/4-2.png, since dog/4.png is another file" in capsys.readouterr().out
    read_data(audit)
    assert "8 moved, 8 relabelled, 1 removed" in capsys.readouterr().out
    examples = read_examples(audit).set_index("example_id")
    assert {
        own: row.label for own, row in examples.iterrows() if int(own.split("/")[-1][:-4]) < 16 and "cat" in own
    } == {f"train/cat/{number}.png": "cat" if number % 2 else "dog" for number in range(16) if number != 1}
    assert examples.loc["train/cat/4.png", "reference"] == "train/dog/4-2.png"
    after, said = exported(audit, capsys)
    assert "left out" not in said and "1 excluded examples are gone from the dataset already" in said
    assert set(after.index) == set(before.index) - {"train/cat/1.png"}
    same = before.loc[after.index]
    assert after["new_label"].equals(same["new_label"]) and after["disposition"].equals(same["disposition"])
    assert truth(audit)["example_id"].isin([*examples.index, "train/cat/1.png"]).all(), "verified labels still fit"


def test_the_exported_patch_can_be_applied_again_and_undone(audit, capsys):
    exported(audit, capsys)
    patch, data = audit.exports_folder / "patch-train.csv", audit.root / "train"
    first = {path.relative_to(data): path.read_bytes() for path in data.rglob("*.png")}
    assert hardlook("apply", patch, data) == 0
    read_data(audit)
    exported(audit, capsys)
    assert hardlook("apply", patch, data) == 0
    assert "8 relabelled" in capsys.readouterr().out
    assert hardlook("apply", "--undo", data) == 0
    assert {path.relative_to(data): path.read_bytes() for path in data.rglob("*.png")} == first
    read_data(audit)
    assert "8 moved, 1 added, 8 relabelled" in capsys.readouterr().out
    assert set(read_examples(audit)["example_id"]) == {f"train/cat/{n}.png" for n in range(N)} | {"train/dog/4.png"}


def test_decisions_follow_into_a_table_that_is_made_anew(audit, capsys):
    exported(audit, capsys)
    assert hardlook("apply", audit.exports_folder / "patch-train.csv", audit.root / "train") == 0
    audit.examples_path.unlink()
    shutil.rmtree(audit.ingest_folder)
    read_data(audit)
    after, said = exported(audit, capsys)
    assert len(after) == 15 and "left out" not in said
    assert after.loc["train/cat/0.png", "new_label"] == "dog"


def test_a_file_that_takes_the_name_of_an_excluded_one_of_the_same_content_keeps_its_own_decision(audit, capsys):
    shutil.copy(audit.root / "train/cat/1.png", audit.root / "train/dog/1.png")
    read_data(audit)
    bad = read_examples(audit).set_index("example_id").loc["train/dog/1.png"]
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        says = {"example_id": bad.name, "fingerprint": bad.fingerprint, "label": "dog", "new_label": "cat"}
        log.append([Event(client="d", seq=1, reviewer="ada", action="decide", verdict="other", **says)])
    exported(audit, capsys)
    for _ in range(2):  # 1.png of the cats goes, 1.png of the dogs comes into its place
        assert hardlook("apply", audit.exports_folder / "patch-train.csv", audit.root / "train") == 0
        read_data(audit)
        examples = read_examples(audit).set_index("example_id")
        assert "train/cat/1.png" not in examples.index
        assert tuple(examples.loc["train/dog/1.png", ["label", "problem"]].fillna("")) == ("cat", "")
        after, _ = exported(audit, capsys)
        assert "train/cat/1.png" not in after.index and after.loc["train/dog/1.png", "new_label"] == "cat"
