"""scoring.data.column_statistics: robust z-scores against scipy's, and what ingest keeps of them."""

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from scoring.audit import Audit
from scoring.data.column_statistics import ALL, Deviations, robust_scale, robust_z
from scoring.data.examples import read_examples
from scoring.data.ingest import ingest

TOML = """format = 1
media = "vector"
classes = ["a", "b", "c"]
[[data]]
path = "x.csv"
split_column = "split"
id_column = "id"
"""


def test_the_scale_is_scipys_and_falls_back_to_the_deviation():
    values = np.random.default_rng(0).normal(size=(101, 3)) * [1, 10, 0]
    values[:40, 2] = np.arange(40)  # most are 0: no median absolute deviation
    centre, spread = robust_scale(values)
    assert centre == pytest.approx(np.median(values, axis=0))
    assert spread[:2] == pytest.approx(median_abs_deviation(values[:, :2], scale="normal"), rel=1e-4)
    assert spread[2] == pytest.approx(values[:, 2].std())


def test_a_constant_column_deviates_only_where_it_changes():
    assert robust_z(np.array([1.0, 2.0, -5.0]), np.ones(3), np.zeros(3)).tolist() == [0, 99, -99]


@pytest.fixture
def audit(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["id,split,label,size (cm),v"]
    for i in range(30):
        split = "test" if i >= 24 else "train"
        label = "c" if i == 0 else "ab"[i % 2]
        lines.append(f"r{i},{split},{label},{rng.normal() + 10 * (i % 2):.4f},{1000 if split == 'test' else i}")
    (tmp_path / "x.csv").write_text("\n".join(lines))
    (tmp_path / "audit.toml").write_text(TOML)
    found = Audit.open(tmp_path)
    ingest(found)
    return found


def test_ingest_compares_each_class_with_its_own_training_examples(audit):
    known = Deviations.read(audit)
    table = read_examples(audit).set_index("example_id")
    assert list(known.columns) == ["size (cm)", "v"] and set(known.groups) == {ALL, "a", "b"}
    lines = [line.split(",") for line in (audit.root / "x.csv").read_text().splitlines()[1:]]
    own = np.array([[float(x) for x in line[3:]] for line in lines if line[1:3] == ["train", "b"]], dtype=np.float32)
    assert known.groups["b"][0] == pytest.approx(np.median(own, axis=0))
    z = known.of(own[3], "b")
    assert z == pytest.approx((own[3] - np.median(own, axis=0)) / median_abs_deviation(own, scale="normal"), rel=1e-4)
    assert known.of(own[3], "c") == pytest.approx(known.of(own[3], None))  # one example is no class to compare with
    assert known.of(np.zeros(5), "b") is None and len(table) == 30


def test_a_second_ingest_writes_nothing_and_new_labels_are_seen(audit):
    before = audit.columns_path.stat().st_mtime_ns
    ingest(audit)
    assert audit.columns_path.stat().st_mtime_ns == before
    path = audit.root / "x.csv"
    path.write_text(path.read_text().replace("r2,train,a", "r2,train,b"))
    ingest(audit)
    assert audit.columns_path.stat().st_mtime_ns != before
