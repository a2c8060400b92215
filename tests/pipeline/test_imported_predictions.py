"""Predictions from a table: a run without a model, or one clear message and nothing written."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table, read_vectors
from scoring.evaluation.probabilities import softmax
from scoring.pipeline.imported_predictions import read_predictions
from scoring.queue.order import default_order, suggestions

from ..conftest import hardlook
from ..dashboard.test_views import cells, page, quiet, said  # noqa: F401  pytest finds the fixtures by name

CLASSES = [str(digit) for digit in range(10)]


@pytest.fixture
def audit(sample_copy):
    """The sample without any run: data alone."""
    shutil.rmtree(sample_copy / "runs")
    text = (sample_copy / "audit.toml").read_text()
    start, end = text.index("# One [run.<name>]"), text.index("# Verified labels")
    (sample_copy / "audit.toml").write_text(text[:start] + text[end:])
    return Audit.open(sample_copy)


def predictions(audit, seed=0) -> pd.DataFrame:
    """example_id and a column per class, for every example, in an order of its own."""
    ids = read_table(audit.examples_path, ["example_id"])["example_id"].to_pylist()
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(10, 0.2), len(ids))
    return pd.DataFrame(p, columns=CLASSES).assign(example_id=ids).sample(frac=1, random_state=seed)


def written(audit) -> list[str]:
    folder = audit.root / "runs"
    found = (path for path in folder.rglob("*") if path.suffix != ".lock") if folder.exists() else ()
    return sorted(str(path.relative_to(folder)) for path in found)


def test_a_csv_becomes_a_run_that_is_scored_and_reviewed(audit, tmp_path, capsys):
    frame = predictions(audit)
    frame.to_csv(tmp_path / "p.csv", index=False)
    assert hardlook("import-predictions", audit.root, tmp_path / "p.csv", "--run", "forest") == 0
    assert "imported 380 of 380" in capsys.readouterr().out
    run = Audit.open(audit.root).run()
    assert run.name == "forest" and {"uncertainty"} <= set(run.score_names())
    table = read_table(run.predictions_path).to_pandas().set_index("example_id")
    p = frame.set_index("example_id")[CLASSES]
    assert (table["prediction"] == p.idxmax(axis=1).reindex(table.index)).all()
    entropy = -(p * np.log(p)).sum(axis=1).reindex(table.index)
    np.testing.assert_allclose(table["entropy"], entropy, atol=1e-5)
    loss = read_table(run.score_path("uncertainty"), ["example_id", "label", "loss"]).to_pandas().dropna()
    own = [-np.log(p.loc[row.example_id, row.label]) for row in loss.itertuples()]
    np.testing.assert_allclose(loss["loss"], own, rtol=1e-4)
    order = default_order(audit, run)
    assert order.score == "suspicion.suspicion" and order.sentence.endswith("the mean rank of Loss")
    for name in ("overview", "grid", "suspects", "compare", "deciles", "slices"):
        assert said(page(audit, name)), name
    assert cells(page(audit, "suspects")) and cells(page(audit, "grid", score="Entropy"))
    assert hardlook("score", audit.root, "--run", "forest") == 0


def test_lists_and_features_come_from_parquet_and_out_of_fold_is_kept_as_such(audit, tmp_path):
    frame = predictions(audit)
    features = np.random.default_rng(1).normal(size=(len(frame), 3))
    table = pd.DataFrame(
        {"key": frame["example_id"], "probabilities": list(frame[CLASSES].to_numpy()), "features": list(features)}
    )
    table.to_parquet(tmp_path / "p.parquet")
    arguments = ("--id-column", "key", "--out-of-fold")
    assert hardlook("import-predictions", audit.root, tmp_path / "p.parquet", *arguments) == 0
    run = Audit.open(audit.root).run("imported")
    ids, kept = read_vectors(run.features_path)
    np.testing.assert_allclose(kept, pd.DataFrame(features, index=frame["example_id"]).reindex(ids), rtol=1e-6)
    ids, logits = read_vectors(run.logits_path)
    np.testing.assert_allclose(
        softmax(logits.astype(float)), frame.set_index("example_id")[CLASSES].reindex(ids), atol=1e-6
    )
    assert set(suggestions(audit, run)["source"]) == {"out-of-fold probabilities"}
    assert run.record()["imported"]["features"] == 3
    assert {"uncertainty", "neighbours"} <= set(run.score_names())
    assert not {"self_influence", "gradnorm", "energy"} & set(run.score_names())  # they are of the model's own head
    assert "logits" in run.record()["skipped"]["energy"]


def test_columns_named_p_class_numbered_features_and_missing_examples(audit, tmp_path, capsys):
    frame = predictions(audit).iloc[:300].rename(columns={name: f"p_{name}" for name in CLASSES})
    frame = frame.assign(feature_1=2.0, feature_0=1.0)
    frame.to_csv(tmp_path / "p.csv", index=False)
    found = read_predictions(tmp_path / "p.csv", CLASSES)
    assert found.features.tolist()[0] == [1.0, 2.0]
    assert hardlook("import-predictions", audit.root, tmp_path / "p.csv") == 0
    assert "80 examples are not in the file" in capsys.readouterr().out
    table = read_table(Audit.open(audit.root).run().score_path("uncertainty"), ["entropy"])
    assert table["entropy"].null_count == 80


def test_json_lists_in_a_csv_are_read(tmp_path):
    frame = pd.DataFrame({"example_id": ["a", "b"], "probabilities": [json.dumps([0.25, 0.75]), "[1, 0]"]})
    frame.to_csv(tmp_path / "p.csv", index=False)
    assert read_predictions(tmp_path / "p.csv", ["x", "y"]).probabilities.tolist() == [[0.25, 0.75], [1, 0]]


def test_probabilities_of_zero_and_of_rounding_stay_finite(tmp_path):
    pd.DataFrame({"example_id": ["a"], "x": [0.999], "y": [0.0]}).to_csv(tmp_path / "p.csv", index=False)
    assert read_predictions(tmp_path / "p.csv", ["x", "y"]).probabilities.tolist() == [[1.0, 0.0]]


BAD = {
    "unknown ids": (
        lambda f: f.assign(example_id=["nobody", *f["example_id"][1:]]),
        "not readable examples .*'nobody'",
    ),
    "duplicates": (lambda f: pd.concat([f, f.iloc[:2]]), "more than once .2 such ids"),
    "empty id": (lambda f: f.assign(example_id=["", *f["example_id"][1:]]), "row 1 has no example_id"),
    "a class too few": (lambda f: f.drop(columns="3"), "no column of probabilities for class '3'"),
    "not summing to 1": (lambda f: f.assign(**{"0": f["0"] + 0.5}), "and sum to 1.5 .380 such rows"),
    "logits": (lambda f: f.assign(**{"0": f["0"] - 3, "1": f["1"] + 3}), "apply a softmax"),
    "NaN": (lambda f: f.assign(**{"4": [np.nan, *f["4"][1:]]}), "has 4 = .* .1 such rows.; needed a number"),
    "words": (lambda f: f.assign(**{"4": "high"}), "has 4 = 'high'"),
    "no id column": (lambda f: f.drop(columns="example_id"), "has no column 'example_id'"),
    "no rows": (lambda f: f.iloc[:0], "has no rows"),
    "a list too short": (
        lambda f: f[["example_id"]].assign(probabilities="[0.5, 0.5]"),
        "has 2 probabilities; audit.toml has 10",
    ),
    "no list": (lambda f: f[["example_id"]].assign(probabilities="half"), "needed a list of numbers"),
    "a null in a list": (lambda f: f[["example_id"]].assign(probabilities="[" + "0.1," * 9 + "null]"), "not finite"),
    "features that are not finite": (lambda f: f.assign(features="[1, NaN]"), "has features that are not finite"),
    "features of two lengths": (
        lambda f: f.assign(features=["[1]", *["[1, 2]"] * (len(f) - 1)]),
        "the first row has 1",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_message_and_nothing_is_written(audit, tmp_path, capsys, case):
    import re

    spoil, message = BAD[case]
    path = tmp_path / ("p.parquet" if case == "NaN" else "p.csv")
    frame = spoil(predictions(audit))
    frame.to_parquet(path) if case == "NaN" else frame.to_csv(path, index=False)
    assert hardlook("import-predictions", audit.root, path) == 1
    told = capsys.readouterr().err
    assert re.search(message, told) and len(told.strip().splitlines()) == 1, told
    assert written(audit) == []


def test_a_bad_file_leaves_the_run_that_was_there(audit, tmp_path, capsys):
    predictions(audit).to_csv(tmp_path / "good.csv", index=False)
    predictions(audit).assign(example_id="twice").to_csv(tmp_path / "bad.csv", index=False)
    assert hardlook("import-predictions", audit.root, tmp_path / "good.csv") == 0
    before = read_table(Audit.open(audit.root).run().predictions_path)
    assert hardlook("import-predictions", audit.root, tmp_path / "bad.csv", "--overwrite") == 1
    assert hardlook("import-predictions", audit.root, tmp_path / "good.csv") == 1
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert read_table(Audit.open(audit.root).run().predictions_path).equals(before)
    predictions(audit, seed=1).to_csv(tmp_path / "good.csv", index=False)
    assert hardlook("import-predictions", audit.root, tmp_path / "good.csv", "--overwrite") == 0
    assert not read_table(Audit.open(audit.root).run().predictions_path).equals(before)
    assert [name for name in written(audit) if name.startswith(".")] == []


def test_a_run_with_a_model_is_never_replaced(sample_copy, tmp_path, capsys):
    audit = Audit.open(sample_copy)
    predictions(audit).to_csv(tmp_path / "p.csv", index=False)
    assert hardlook("import-predictions", sample_copy, tmp_path / "p.csv", "--run", "main", "--overwrite") == 1
    assert "[run.main] with its own model" in capsys.readouterr().err
    assert hardlook("import-predictions", sample_copy, tmp_path / "p.csv", "--run", "../x") == 1
    assert hardlook("import-predictions", sample_copy, tmp_path / "none.csv") == 1


def test_a_killed_import_leaves_no_run(audit, tmp_path, monkeypatch):
    predictions(audit).to_csv(tmp_path / "p.csv", index=False)
    monkeypatch.setattr(
        "scoring.pipeline.imported_predictions.write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    assert hardlook("import-predictions", audit.root, tmp_path / "p.csv") == 130
    assert Audit.open(audit.root).run_names() == [] and written(audit) == []


def test_without_classes_the_message_says_so(tmp_path):
    pd.DataFrame({"example_id": ["a"], "x": [1.0]}).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(HardlookError, match="has no classes"):
        read_predictions(tmp_path / "p.csv", [])


def with_ids(audit, lines):
    """The same audit, whose manifests call their ids ``key``, with and without a prefix."""
    root = audit.root
    for split in ("train", "test"):
        rows = [(f"{split}-{at}" if "PREFIX" not in lines else str(at), at) for at in range(6)]
        np.savez(root / f"{split}.npz", x=np.random.default_rng(len(split)).random((6, 8, 8)))
        with open(root / f"{split}.csv", "w") as file:
            file.write("key,text,label\n" + "".join(f"{own},{split} word {at},{at % 10}\n" for own, at in rows))
    tables = "".join(
        f'[[data]]\nsplit = "{split}"\npath = "{split}.csv"\n'
        + lines.replace("PREFIX", f"{split}/" if split == "test" else "")
        for split in ("train", "test")
    )
    classes = ", ".join(f'"{name}"' for name in CLASSES)
    (root / "audit.toml").write_text(f'format = 1\nmedia = "text"\nclasses = [{classes}]\n{tables}')
    return Audit.open(root)


def test_ids_stand_under_the_audits_own_id_column(audit, tmp_path, capsys):
    audit = with_ids(audit, 'id_column = "key"\n')
    ids = [f"{split}-{at}" for split in ("train", "test") for at in range(6)]
    p = np.random.default_rng(3).dirichlet(np.ones(10), len(ids))
    frame = pd.DataFrame(p, columns=CLASSES).assign(key=ids)
    frame.sample(frac=1, random_state=1).to_csv(tmp_path / "p.csv", index=False)
    assert hardlook("import-predictions", audit.root, tmp_path / "p.csv") == 0, capsys.readouterr().err
    found, logits = read_vectors(Audit.open(audit.root).run("imported").logits_path)
    np.testing.assert_allclose(softmax(logits), frame.set_index("key").loc[list(found), CLASSES], rtol=1e-5)
    frame.rename(columns={"key": "example_id"}).assign(key="x").to_csv(tmp_path / "q.csv", index=False)
    assert hardlook("import-predictions", audit.root, tmp_path / "q.csv", "--run", "again") == 0


def test_ids_may_lack_the_prefix_where_only_one_example_can_be_meant(audit, tmp_path, capsys):
    audit = with_ids(audit, 'id_column = "key"\nid_prefix = "PREFIX"\n')
    frame = pd.DataFrame(np.full((6, 10), 0.1), columns=CLASSES)
    frame.assign(key=[str(at) for at in range(6)]).to_csv(tmp_path / "p.csv", index=False)
    assert hardlook("import-predictions", audit.root, tmp_path / "p.csv") == 1
    assert "'0' could be '0' or 'test/0'" in capsys.readouterr().err
    frame.assign(key=[f"test/{at}" for at in range(6)]).to_csv(tmp_path / "p.csv", index=False)
    assert hardlook("import-predictions", audit.root, tmp_path / "p.csv") == 0
