"""Slicings of a run are found, summarised and kept; corrections are previewed beside a placebo."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from dashboard.panels.refit_effect import verdict
from dashboard.style.formatting import percent
from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_json, read_table
from scoring.corrections.effect.head_refit import halves
from scoring.corrections.effect.preview import preview, reviewed_labels
from scoring.reviews import Event, ReviewLog
from scoring.slices.slicing_run import (
    Embedded,
    SliceSettings,
    checked_name,
    embedded,
    find,
    read_slicing,
    slice_run,
    strongest_influences,
    summarise,
)

from ..conftest import hardlook
from ..dashboard.test_views import page, quiet, said  # noqa: F401  pytest finds the fixtures by name


def settings(**changed):
    return SliceSettings(**{"n_slices": 5, "min_size": 4, "max_accuracy": 0.6, **changed})


def test_embeddings_join_labelled_examples_alone(scored_sample):
    audit = Audit.open(scored_sample)
    everything = embedded(audit, audit.run())
    assert set(everything.frame["split"]) == {"train", "test"}
    assert len(everything.frame) == len(everything.vectors) == 360
    assert everything.frame["label"].notna().all()
    assert "meta.ink" in everything.frame


def test_self_influence_of_the_file_is_the_squared_length_of_the_vectors(scored_sample):
    audit = Audit.open(scored_sample)
    everything = embedded(audit, audit.run())
    scores = read_table(audit.run().score_path("influence")).to_pandas().set_index("example_id")["self_influence"]
    expected = np.square(everything.vectors.astype(np.float64)).sum(1)
    np.testing.assert_allclose(scores[everything.frame["example_id"]], expected, rtol=1e-5)


@pytest.mark.parametrize("method", ["kmeans", "rule", "dbscan", "spectral"])
def test_a_slicing_is_kept_with_its_summary(sample_copy, method):
    audit = Audit.open(sample_copy)
    summary = slice_run(audit, audit.run(), settings(method=method), f"my {method}")
    members, kept = read_slicing(audit.run(), f"my {method}")
    assert kept == json.loads(json.dumps(summary))
    assert len(members) == 120
    sizes = members[members["slice_id"] >= 0]["slice_id"].value_counts()
    for found in summary["slices"]:
        assert found["size"] == sizes[found["slice_id"]]
    assert summary["in_none"] == (members["slice_id"] < 0).sum()
    accuracies = [found["accuracy"] for found in summary["slices"]]
    assert accuracies == sorted(accuracies)
    if method == "rule":
        assert all(found["accuracy"] <= 0.6 and found["size"] >= 4 for found in summary["slices"])


def test_opponents_harm_and_proponents_help_by_the_numbers_given(scored_sample):
    audit = Audit.open(scored_sample)
    everything = embedded(audit, audit.run())
    train, members = everything.of("train"), everything.of("test").vectors[:7]
    opponents, proponents = strongest_influences(members, train, 5)
    by_hand = train.vectors.astype(np.float64) @ members.sum(0, dtype=np.float64)
    assert opponents[0]["influence"] == pytest.approx(by_hand.min()) and by_hand.min() < 0
    assert proponents[0]["influence"] == pytest.approx(by_hand.max()) and by_hand.max() > 0
    assert train.frame["example_id"][by_hand.argmin()] == opponents[0]["example_id"]


def test_found_slices_do_not_depend_on_the_order_of_rows(scored_sample):
    audit = Audit.open(scored_sample)
    everything = embedded(audit, audit.run())
    whole = find(everything, settings(method="rule"))
    assert whole.equals(find(everything, settings(method="rule")))


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "x" * 81])
def test_a_name_that_is_no_file_name_is_refused(name):
    with pytest.raises(HardlookError, match="cannot be the name of a slicing"):
        checked_name(name)


def test_without_embeddings_it_says_what_to_run(sample_copy, capsys):
    Audit.open(sample_copy).run().influence_path.unlink()
    assert hardlook("slice", sample_copy) == 1
    assert "--only influence" in capsys.readouterr().err


def test_more_slices_than_examples_are_refused(scored_sample):
    audit = Audit.open(scored_sample)
    with pytest.raises(HardlookError, match="slices"):
        find(embedded(audit, audit.run()), settings(n_slices=1000))


def ids(audit):
    return read_table(audit.examples_path, ["example_id"])["example_id"].to_pylist()


def decide(audit):
    """Relabel every planted error of train to its truth → how many."""
    truth = dict(list(csv.reader((audit.root / "data" / "truth.csv").read_text().splitlines()))[1:])
    examples = read_table(audit.examples_path).to_pandas()
    train = examples[(examples["split"] == "train") & (examples["label"] != examples["example_id"].map(truth))]
    url = audit.log_url
    with ReviewLog.open(url, audit=audit.log_name(url)) as log:
        log.append(
            [
                Event(
                    client="c",
                    seq=number,
                    example_id=row.example_id,
                    fingerprint=row.fingerprint,
                    label=row.label,
                    reviewer="r",
                    action="decide",
                    verdict="other",
                    new_label=truth[row.example_id],
                )
                for number, row in enumerate(train.itertuples(), 1)
            ]
        )
    return len(train)


def test_the_refit_compares_original_reviewed_and_placebo_on_the_other_half(sample_copy, capsys):
    audit = Audit.open(sample_copy)
    wrong = decide(audit)
    assert hardlook("refit", sample_copy, "--device", "cpu") == 0
    shown = capsys.readouterr().out
    assert f"next: hardlook dashboard {sample_copy} (page Reviews shows it)" in shown
    found = read_json(audit.run().refit_path)
    assert found["edits"] == {"relabelled": wrong, "removed": 0, "train": 240}
    assert 40 <= found["judged_on"]["examples"] < 80
    groups = {row["group"]: row for row in found["groups"]}
    assert groups["all"]["n"] == found["judged_on"]["examples"]
    assert groups["all"]["gain_low"] <= groups["all"]["gain"] <= groups["all"]["gain_high"]
    assert groups["all"]["change"] < 0
    assert f"{wrong} training labels changed" in shown
    app = page(audit, "reviews")
    text = said(app)
    assert f"**{wrong} training labels changed**, out of 240" in text
    titles = {"original": "Original labels", "reviewed": "Reviewed labels", "placebo": "Placebo"}
    for name, title in titles.items():
        assert f"{title}, accuracy{percent(groups['all'][name])}" in text
    assert verdict(groups["all"]) in text
    tables = [list(frame.value["group"]) for frame in app.dataframe if "over placebo" in frame.value.columns]
    assert tables and tables[0][0] == "all" and set(tables[0]) <= set(groups)
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        log.append([Event(client="d", seq=1, example_id=next(iter(ids(audit))), reviewer="r", action="flag")])
    assert "The log has 1 event since this preview" in said(page(audit, "reviews"))


def test_a_review_without_corrections_has_no_effect_to_preview(sample_copy, capsys):
    assert hardlook("refit", sample_copy, "--device", "cpu") == 1
    assert "has not changed any training label yet" in capsys.readouterr().err


def test_the_predicted_change_is_that_of_the_embeddings(sample_copy):
    audit = Audit.open(sample_copy)
    decide(audit)
    zeros = None

    def removed(ids, labels):
        nonlocal zeros
        zeros = np.zeros((len(ids), embedded(audit, audit.run()).vectors.shape[1]), np.float32)
        return zeros

    with ReviewLog.open(audit.log_url, audit="audit") as log:
        found = preview(audit, audit.run(), log, removed)
        everything = embedded(audit, audit.run())
        original, reviewed = reviewed_labels(audit, log, everything.of("train").frame)
    moved = everything.of("train").vectors[original != reviewed].sum(0, dtype=np.float64)
    test = everything.of("test")
    judged = Embedded(test.frame, test.vectors[~halves(test.frame["example_id"], seed=0)])
    expected = float((judged.vectors @ moved).mean() / 240)
    assert found["groups"][0]["change"] == pytest.approx(expected, rel=1e-6)


def test_a_summary_names_the_training_examples_that_harm_or_help_and_no_others():
    frame = pd.DataFrame(
        {
            "example_id": ["t0", "t1", "t2", "e0", "e1", "e2"],
            "split": ["train"] * 3 + ["test"] * 3,
            "label": "cat",
            "prediction": "dog",
            "correct": False,
        }
    )
    vectors = np.array([[-2.0, 0.0], [0.0, 5.0], [3.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = pd.DataFrame({"example_id": ["e0", "e1", "e2"], "slice_id": [0, 0, 1], "distance": 0.0})
    summary = summarise(Embedded(frame, vectors), found, settings())
    by_slice = {one["slice_id"]: one for one in summary["slices"]}
    assert by_slice[0]["opponents"] == [{"example_id": "t0", "influence": -4.0}]
    assert by_slice[0]["proponents"] == [{"example_id": "t2", "influence": 6.0}]
    assert by_slice[1]["opponents"] == [] and by_slice[1]["proponents"] == [{"example_id": "t1", "influence": 5.0}]


def test_reviewed_test_examples_judge_with_their_corrected_label_and_excluded_ones_not_at_all(sample_copy):
    audit = Audit.open(sample_copy)
    decide(audit)
    test = embedded(audit, audit.run()).of("test").frame
    judging = test[~halves(test["example_id"], seed=audit.seed)].reset_index(drop=True)
    label, other = judging["label"][0], next(name for name in audit.classes if name != judging["label"][0])

    def nothing(ids, labels):
        return np.zeros((len(ids), embedded(audit, audit.run()).vectors.shape[1]), np.float32)

    def judged():
        with ReviewLog.open(audit.log_url, audit="audit") as log:
            groups = preview(audit, audit.run(), log, nothing)["groups"]
        return {row["group"]: row["n"] for row in groups}

    before = judged()
    assert before["all"] == len(judging) and before[f"class {label}"] == (judging["label"] == label).sum()
    prints = read_table(audit.examples_path).to_pandas().set_index("example_id")["fingerprint"]
    with ReviewLog.open(audit.log_url, audit="audit") as log:
        for seq, (row, says) in enumerate([(0, {"verdict": "other", "new_label": other}), (1, {"verdict": "none"})], 1):
            one = judging.loc[row]
            log.append(
                [
                    Event(
                        client="test",
                        seq=seq,
                        example_id=one["example_id"],
                        label=one["label"],
                        reviewer="r",
                        fingerprint=prints[one["example_id"]],
                        action="decide",
                        **says,
                    )
                ]
            )
    after = judged()
    assert after["all"] == before["all"] - 1
    gone = judging["label"][1]
    assert after[f"class {label}"] == before[f"class {label}"] - 1 - (gone == label)
    assert after[f"class {other}"] == before.get(f"class {other}", 0) + 1 - (gone == other)
