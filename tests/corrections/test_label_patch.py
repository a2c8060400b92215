"""A patch of labels: what is in it, for whom decisions stand, and what follows content into it."""

import os

import numpy as np
import pandas as pd
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.audit.errors import HardlookError
from scoring.corrections import label_patch
from scoring.corrections.label_patch import apply_patch, corrected_labels, export_patches, read_patch, write_patch
from scoring.reviews import Event, ReviewLog

RISKY = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\n=1",
    " =1",
    "\u00a0x",
    "＝1",
    "'quoted",
    "''",
    "'",
    "'=1",
]


@pytest.fixture
def log(tmp_path):
    with ReviewLog.open(tmp_path / "reviews.sqlite", "digits") as log:
        yield log


@pytest.fixture
def examples():
    splits = ["train"] * 6 + ["test"] * 2 + ["pool"]
    return pd.DataFrame(
        {
            "example_id": list("abcdefghi"),
            "split": splits,
            "label": pd.array([*"33333333", None], dtype=label_patch.TEXT),
            "fingerprint": [f"print {name}" for name in "abcdefghi"],
            "meta.site": range(9),
        }
    )


def decide(log, example_id, reviewer="ana", action="decide", **fields):
    seq = log.acknowledged([reviewer]).get(reviewer, 0) + 1
    fields = {"label": "3", "fingerprint": f"print {example_id}", **fields}
    log.append([Event(client=reviewer, seq=seq, example_id=example_id, reviewer=reviewer, action=action, **fields)])


def decide_everything(log):
    decide(log, "a", verdict="given")
    decide(log, "b", verdict="other", new_label="5", note="=cmd|' /C calc'!A0")
    decide(log, "c", verdict="several", labels=["3", "5"])
    decide(log, "d", verdict="none")
    decide(log, "e", verdict="unsure")
    decide(log, "f", verdict="given", issues=["duplicate", "bad image"])
    decide(log, "g", verdict="given")
    decide(log, "g", "ben", verdict="none")
    decide(log, "i", label=None, verdict="other", new_label="7")


def column(patch, name):
    values = patch[name].astype(object)
    return dict(zip(patch["example_id"], values.where(values.notna(), None), strict=True))


# -- policy -----------------------------------------------------------------------------------------


def test_the_default_policy_says_what_happens_to_each_verdict(examples, log):
    decide_everything(log)
    patch = corrected_labels(examples, log)
    assert column(patch, "disposition") == {
        "a": "keep",
        "b": "relabel",
        "c": "second reader",
        "d": "exclude",
        "e": "second reader",
        "f": "exclude",
        "g": "second reader",
        "i": "relabel",
    }
    assert column(patch, "new_label") == {
        "a": "3",
        "b": "5",
        "c": None,
        "d": None,
        "e": None,
        "f": None,
        "g": None,
        "i": "7",
    }
    assert column(patch, "reason") | {"f": 0, "g": 0} == {**dict.fromkeys("abcdei"), "f": 0, "g": 0}
    assert (column(patch, "reason")["f"], column(patch, "reason")["g"]) == (
        "issue: bad image",
        "reviewers differ",
    )
    assert column(patch, "reviewer")["g"] == "ana, ben"
    assert column(patch, "old_label")["b"] == "3" and column(patch, "old_label")["i"] is None


def test_a_teams_policy_overrides_the_default_key_by_key(examples, log):
    decide_everything(log)
    policy = {
        "none": "second reader",
        "several": "exclude",
        "duplicate": "keep",
        "bad image": "keep",
        "test": "blind",
    }
    found = column(corrected_labels(examples, log, policy), "disposition")
    assert (found["d"], found["c"], found["f"], found["b"]) == ("second reader", "exclude", "keep", "relabel")


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"none": "drop"}, "none = 'drop'; needed one of keep, relabel"),
        ({"none": "relabel"}, "gives no new label"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(examples, log, policy, reason):
    with pytest.raises(HardlookError, match=reason):
        corrected_labels(examples, log, policy)


def test_several_becomes_a_relabel_where_the_policy_says_so_and_a_label_was_chosen(examples, log):
    decide(log, "a", verdict="several", labels=["3", "5"], new_label="5")
    decide(log, "b", verdict="several", labels=["3", "5"])
    patch = corrected_labels(examples, log, {"several": "relabel"})
    assert column(patch, "new_label") == {"a": "5", "b": None}
    assert column(patch, "disposition") == {"a": "relabel", "b": "second reader"}


def test_an_issue_alone_keeps_or_excludes(examples, log):
    decide(log, "a", issues=["bad image"])
    decide(log, "b", issues=["duplicate"])
    assert column(corrected_labels(examples, log), "disposition") == {"a": "exclude", "b": "keep"}


def test_an_adjudication_settles_a_dispute_for_the_patch(examples, log):
    decide_everything(log)
    decide(log, "g", "lea", "adjudicate", verdict="other", new_label="9")
    patch = corrected_labels(examples, log)
    assert (column(patch, "status")["g"], column(patch, "new_label")["g"]) == ("adjudicated", "9")
    assert column(patch, "reviewer")["g"] == "ana, ben, lea"


def test_an_example_that_changed_since_it_was_reviewed_goes_to_a_second_reader(examples, log):
    decide(log, "a", verdict="other", new_label="5")
    examples.loc[0, "fingerprint"] = "another picture"
    row = corrected_labels(examples, log).iloc[0]
    assert (row.disposition, row.fingerprint) == ("second reader", "print a")
    assert row.reason == "the example changed since it was reviewed" and pd.isna(row.new_label)


def test_an_undone_decision_is_not_in_the_patch(examples, log):
    decide(log, "a", verdict="none")
    decide(log, "a", action="undo", undoes=("ana", 1))
    assert corrected_labels(examples, log).empty


def test_decisions_about_examples_that_are_gone_are_counted_not_exported(examples, log):
    decide(log, "a", verdict="given")
    decide(log, "zebra", verdict="given")
    assert corrected_labels(examples, log).example_id.tolist() == ["a"]
    decide(log, "yak", verdict="none")
    assert label_patch.missing_examples(examples, log) == ["zebra"]
    assert label_patch.excluded_already(examples, log) == ["yak"]


def test_a_decision_follows_its_content_into_a_new_audit_unless_two_examples_have_it_or_it_excludes(examples, log):
    decide(log, "old a", fingerprint="print a", verdict="other", new_label="5")
    decide(log, "old b", fingerprint="print b", verdict="given")
    decide(log, "older b", fingerprint="print b", verdict="given")
    decide(log, "old c", fingerprint="print c", verdict="none")
    decide(log, "old d", fingerprint="print d", verdict="given")
    decide(log, "d", verdict="other", new_label="7")
    twice = examples.assign(fingerprint=examples["fingerprint"].replace({"print f": "print e"}))
    decide(log, "old e", fingerprint="print e", verdict="given")
    patch = corrected_labels(twice, log)
    assert column(patch, "new_label") == {"a": "5", "d": "7"}
    assert sorted(label_patch.missing_examples(twice, log)) == ["old b", "old d", "old e", "older b"]
    assert label_patch.excluded_already(twice, log) == ["old c"]


def test_the_patch_follows_the_datasets_order(examples, log):
    for example in "dba":
        decide(log, example, verdict="given")
    assert corrected_labels(examples[::-1], log).example_id.tolist() == ["d", "b", "a"]


# -- files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", label_patch.FORMATS)
def test_each_split_has_a_patch_of_its_own_that_comes_back_exactly(examples, log, tmp_path, fmt):
    decide_everything(log)
    paths = export_patches(examples, log, tmp_path / "out", fmt=fmt)
    assert [path.name for path in paths] == [f"patch-{split}.{fmt}" for split in ("train", "test", "pool")]
    assert sorted(os.listdir(tmp_path / "out")) == sorted(path.name for path in paths), "no partial files stay"
    patch = corrected_labels(examples, log)
    for path, split in zip(paths, ("train", "test", "pool"), strict=True):
        written = patch[patch.split == split].reset_index(drop=True)
        assert set(written.split) == {split}
        pd.testing.assert_frame_equal(read_patch(path), written)


@pytest.mark.parametrize("fmt", label_patch.FORMATS)
def test_a_split_without_decisions_gets_an_empty_patch(examples, log, tmp_path, fmt):
    decide(log, "a", verdict="none")
    export_patches(examples, log, tmp_path, fmt=fmt)
    decide(log, "a", action="undo", undoes=("ana", 1))
    paths = export_patches(examples, log, tmp_path, fmt=fmt)
    for path in paths:
        assert read_patch(path).empty
        assert read_patch(path).dtypes.to_dict() == corrected_labels(examples, log).dtypes.to_dict()


def test_an_unknown_format_is_refused(examples, log, tmp_path):
    with pytest.raises(HardlookError, match="csv or parquet, found 'xlsx'"):
        export_patches(examples, log, tmp_path, fmt="xlsx")


def patch_of(texts, nulls=()):
    n = len(texts)
    frame = pd.DataFrame(
        {name: pd.array([None] * n, dtype=label_patch.TEXT) for name in label_patch.PATCH_SCHEMA.names}
    )
    for name in ("example_id", "old_label", "new_label", "reviewer", "note"):
        frame[name] = pd.array(texts, dtype=label_patch.TEXT)
    frame["time"] = pd.Timestamp("2026-01-02T03:04:05.000001Z").as_unit("us")
    for name in ("labels", "issues"):
        frame[name] = pd.Series([(text,) for text in texts], dtype=object)
    return frame


def test_no_cell_of_a_csv_begins_as_a_formula(tmp_path):
    write_patch(tmp_path / "patch.csv", patch_of(RISKY))
    cells = pyarrow.csv.read_csv(
        tmp_path / "patch.csv", parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True)
    ).to_pydict()
    found = [cell for column in cells.values() for cell in column if isinstance(cell, str)]
    assert not [cell for cell in found if cell.strip()[:1] in tuple("=+-@＝")]
    assert not [cell for cell in found if cell[:1] in tuple("\t\r\n")]


@pytest.mark.parametrize("ending", label_patch.FORMATS)
@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(
        st.one_of(
            st.sampled_from([*RISKY, "", "NA", "null", "nan", "1e5", "007", "a,b;c\"d'e", "\r\n", "\ufeff", "\u2028"]),
            st.text(st.characters(codec="utf-8"), max_size=20),
        ),
        max_size=5,
    )
)
def test_any_text_survives_the_round_trip(tmp_path_factory, ending, texts):
    path = tmp_path_factory.mktemp("patch") / f"patch.{ending}"
    patch = patch_of(texts)
    write_patch(path, patch)
    pd.testing.assert_frame_equal(read_patch(path), patch)


def test_null_and_empty_text_stay_apart(tmp_path):
    patch = patch_of(["", "x"])
    patch["note"] = pd.array([None, ""], dtype=label_patch.TEXT)
    write_patch(tmp_path / "patch.csv", patch)
    assert read_patch(tmp_path / "patch.csv").note.isna().tolist() == [True, False]


def test_a_long_note_survives_the_csv(tmp_path):
    patch = patch_of(["line\n" * 400_000])
    write_patch(tmp_path / "patch.csv", patch)
    pd.testing.assert_frame_equal(read_patch(tmp_path / "patch.csv"), patch)


def test_a_csv_that_a_spreadsheet_saved_again_is_still_a_patch(examples, log, tmp_path):
    decide_everything(log)
    path = export_patches(examples, log, tmp_path)[0]
    pd.read_csv(path, dtype=str, keep_default_na=False).to_csv(path, index=False, encoding="utf-8-sig")
    patch = corrected_labels(examples, log)
    pd.testing.assert_frame_equal(read_patch(path), patch[patch.split == "train"].reset_index(drop=True))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "is not a label patch: it has no column example_id"),
        ("a\n1,2\n", "cannot be read"),
    ],
)
def test_a_file_that_is_no_patch_is_one_clear_error(tmp_path, content, reason):
    (tmp_path / "patch.csv").write_text(content)
    with pytest.raises(HardlookError, match=reason):
        read_patch(tmp_path / "patch.csv")


def test_a_parquet_patch_says_what_it_is(examples, log, tmp_path):
    decide_everything(log)
    schema = pq.read_schema(export_patches(examples, log, tmp_path, fmt="parquet")[0])
    assert schema.names == label_patch.PATCH_SCHEMA.names and b"label patch" in schema.metadata[b"hardlook"]


def test_an_export_that_fails_leaves_the_old_patch(examples, log, tmp_path, monkeypatch):
    decide(log, "a", verdict="given")
    path = export_patches(examples, log, tmp_path)[0]
    before = path.read_bytes()

    def full(*_arguments):
        raise OSError("no space left on device")

    monkeypatch.setattr(pyarrow.csv, "write_csv", full)
    with pytest.raises(OSError, match="no space"):
        export_patches(examples, log, tmp_path)
    assert path.read_bytes() == before and len(list(tmp_path.glob(".patch*"))) == 0


# -- applying ---------------------------------------------------------------------------------------


def test_applying_a_patch_corrects_the_labels(examples, log):
    decide_everything(log)
    corrected, report = apply_patch(corrected_labels(examples, log), examples)
    assert dict(zip(corrected.example_id, corrected.label, strict=True)) | {"i": "7"} == {
        "a": "3",
        "b": "5",
        "c": "3",
        "e": "3",
        "g": "3",
        "h": "3",
        "i": "7",
    }
    assert column(report, "outcome") == {
        "a": "kept",
        "b": "relabelled",
        "c": "second reader",
        "d": "excluded",
        "e": "second reader",
        "f": "excluded",
        "g": "second reader",
        "i": "relabelled",
    }
    assert set(report.outcome) <= set(label_patch.OUTCOMES)
    assert corrected["meta.site"].tolist() == [0, 1, 2, 4, 6, 7, 8] and list(corrected) == list(examples)


def test_a_patch_is_refused_example_by_example(examples, log):
    for example in "abcdef":
        decide(log, example, verdict="other", new_label="5")
    patch = corrected_labels(examples, log)
    dataset = examples.copy()
    dataset.loc[0, "fingerprint"] = "changed"
    dataset.loc[1, "fingerprint"] = None
    dataset.loc[2, "label"] = "8"
    dataset.loc[3, "split"] = "test"
    dataset = dataset.drop(index=4)
    corrected, report = apply_patch(patch, dataset)
    reasons = column(report, "reason")
    assert reasons["a"] == "the fingerprint differs: changed in the dataset, print a in the patch"
    assert "fingerprint differs" in reasons["b"]
    assert reasons["c"] == "the label differs: '8' in the dataset, '3' in the patch"
    assert reasons["d"] == "the split differs: test in the dataset, train in the patch"
    assert reasons["e"] == "not in this dataset"
    assert report.outcome.tolist() == ["refused"] * 5 + ["relabelled"]
    assert corrected.label.dropna().tolist() == ["3", "3", "8", "3", "5", "3", "3"]


def test_applying_twice_changes_nothing_more(examples, log):
    decide_everything(log)
    patch = corrected_labels(examples, log)
    once, _ = apply_patch(patch, examples)
    twice, _ = apply_patch(patch, once)
    pd.testing.assert_frame_equal(once, twice)


def test_applying_leaves_its_inputs_alone(examples, log):
    decide_everything(log)
    patch = corrected_labels(examples, log)
    before = (patch.copy(deep=True), examples.copy(deep=True))
    apply_patch(patch, examples)
    pd.testing.assert_frame_equal(patch, before[0])
    pd.testing.assert_frame_equal(examples, before[1])


@pytest.mark.parametrize("dtype", ["category", object])
def test_labels_may_be_categories_or_objects(examples, log, dtype):
    decide_everything(log)
    corrected, _ = apply_patch(corrected_labels(examples, log), examples.astype({"label": dtype}))
    assert corrected.label[1] == "5"


def test_a_dataset_that_is_no_table_of_labels_is_refused(examples, log):
    patch = corrected_labels(examples, log)
    with pytest.raises(HardlookError, match="has no column fingerprint"):
        apply_patch(patch, examples.drop(columns="fingerprint"))
    with pytest.raises(HardlookError, match="names example 'a' twice"):
        apply_patch(patch, pd.concat([examples, examples[:1]]))
    with pytest.raises(HardlookError, match="labels are class names, found the number"):
        apply_patch(patch, examples.assign(label=np.arange(9)))


def test_a_patch_that_makes_no_sense_is_refused(examples, log):
    decide(log, "a", verdict="other", new_label="5")
    patch = corrected_labels(examples, log)
    with pytest.raises(HardlookError, match="has disposition 'burn'"):
        apply_patch(patch.assign(disposition="burn"), examples)
    with pytest.raises(HardlookError, match="relabels 'a' without a new_label"):
        apply_patch(patch.assign(new_label=None), examples)


def test_an_export_of_one_split_never_touches_another(examples, log, tmp_path):
    decide_everything(log)
    train = read_patch(export_patches(examples, log, tmp_path)[0])
    corrected, _ = apply_patch(train, examples)
    rest = examples[examples.split != "train"].reset_index(drop=True)
    pd.testing.assert_frame_equal(corrected[corrected.split != "train"].reset_index(drop=True), rest)
