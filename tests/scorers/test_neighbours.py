"""Neighbours against scikit-learn and hand-made geometry: who is near, and whether they agree on the label."""

import shutil

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.data.duplicates import near_groups
from scoring.data.nearest_neighbours import among, disagreement, fair_k, nearest
from scoring.pipeline.score_run import make_scorer, score_one
from scoring.pipeline.shards import Context
from scoring.scorers import registry
from scoring.scorers.intrinsic_dimension import intrinsic_dimension, neighbour_radii


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(size=(400, 12)).astype(np.float32)


def test_the_neighbours_are_those_of_the_full_distance_matrix_without_the_example_itself(points):
    found = nearest(points, points, 7, own=np.arange(400))
    full = pairwise_distances(points.astype(np.float64), metric="cosine")
    np.fill_diagonal(full, np.inf)
    np.testing.assert_array_equal(found.positions, np.argsort(full, axis=1)[:, :7])
    np.testing.assert_allclose(found.distances, np.sort(full, axis=1)[:, :7], atol=1e-6)


def test_length_does_not_count_and_order_of_queries_does_not_either(points):
    lengths = np.random.default_rng(1).uniform(0.1, 30, size=(400, 1)).astype(np.float32)
    order = np.random.default_rng(2).permutation(400)
    found = nearest(points, points, 5)
    scaled = nearest((points * lengths)[order], points * lengths, 5)
    np.testing.assert_array_equal(found.positions[order], scaled.positions)


def test_a_copy_is_a_neighbour_and_the_example_itself_is_not():
    points = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = nearest(points, points, 2, own=np.arange(3))
    assert found.positions.tolist() == [[1, 2], [0, 2], [0, 1]]
    assert found.distances[0].tolist() == pytest.approx([0, 1])


def test_what_is_missing_has_no_neighbours_and_is_nobodys(points):
    points[3] = np.nan
    found = nearest(points, points, 400, own=np.arange(400))
    assert (found.positions[3] == -1).all() and np.isnan(found.distances[3]).all()
    assert not (found.positions == 3).any()
    assert ((found.positions[0] >= 0).sum(), (found.positions[0, :398] >= 0).all()) == (398, True)


def test_the_approximate_search_finds_nearly_all_of_the_exact_ones_and_the_same_twice():
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(8, 16))[rng.integers(0, 8, 1500)] + rng.normal(size=(1500, 16))).astype(np.float32)
    exact = nearest(points, points, 20, own=np.arange(1500))
    near = nearest(points, points, 20, own=np.arange(1500), exact=100)
    again = nearest(points, points, 20, own=np.arange(1500), exact=100)
    np.testing.assert_array_equal(near.positions, again.positions)
    shared = [len(set(a) & set(b)) / 20 for a, b in zip(exact.positions, near.positions, strict=True)]
    assert np.mean(shared) > 0.95
    assert not (near.positions == np.arange(1500)[:, None]).any()


def test_the_graph_alone_finds_nearly_all_of_the_very_nearest():
    points = np.random.default_rng(3).normal(size=(1500, 16)).astype(np.float32)
    points[7] = np.nan
    exact, near = among(points, 10), among(points, 10, exact=100)
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(exact.positions, near.positions, strict=True)]
    assert np.mean(np.delete(shared, 7)) > 0.95 and (near.positions[7] == -1).all()
    same = near.positions == exact.positions
    np.testing.assert_allclose(
        near.distances[same & (exact.positions >= 0)], exact.distances[same & (exact.positions >= 0)], rtol=1e-5
    )
    assert (np.diff(np.delete(near.distances, 7, axis=0), axis=1) >= 0).all()


def test_near_duplicates_are_the_same_groups_by_the_approximate_search():
    rng = np.random.default_rng(4)
    points = rng.normal(size=(1500, 16))
    points = np.vstack([points, points[:100] + 0.02 * rng.normal(size=(100, 16))])
    exact, near = near_groups(points, np.arange(1600)), near_groups(points, np.arange(1600), exact=100)
    assert near.threshold == pytest.approx(exact.threshold, rel=0.02)
    assert (near.group[:100] == near.group[1500:]).mean() >= 0.98 and (near.group[:100] >= 0).mean() >= 0.98
    both = (near.group >= 0) & (exact.group >= 0)
    assert both.sum() >= 0.98 * (exact.group >= 0).sum()
    assert len(set(zip(near.group[both], exact.group[both], strict=True))) == len(set(near.group[both]))


def test_intrinsic_dimension_by_the_approximate_search_is_that_of_exact_neighbours():
    points = np.random.default_rng(5).normal(size=(1500, 12)).astype(np.float32)
    exact, near = (intrinsic_dimension(neighbour_radii(points, 20, exact=most)) for most in (10_000, 100))
    apart = np.abs(near / exact - 1)
    assert np.median(apart) < 1e-6 and np.quantile(apart, 0.95) < 0.05 and np.corrcoef(near, exact)[0, 1] > 0.99


def test_disagreement_counted_by_hand():
    labels = np.array([0, 0, 1, 1, 1])
    positions = np.array([[1, 2, 3], [0, 2, 3], [3, 4, 0], [2, 4, -1], [-1, -1, -1]])
    found = disagreement(positions, labels, np.array([0, 0, 1, -1, 1]), 3)
    np.testing.assert_allclose(found, [2 / 3, 2 / 3, 1 / 3, np.nan, np.nan])
    np.testing.assert_allclose(
        disagreement(positions, labels, labels, np.array([1, 2, 2, 1, 3])), [0, 0.5, 0, 0, np.nan]
    )


def test_a_small_class_is_asked_about_as_many_as_it_has():
    base = np.repeat([0, 1, 2], [500, 41, 3])
    assert fair_k(200, base, np.array([0, 1, 2]), 10).tolist() == [200, 40, 10]


def test_the_file_holds_labelled_training_examples_nearest_first(scored_sample):
    audit = Audit.open(scored_sample)
    examples = read_table(audit.examples_path, ["example_id", "split"]).to_pandas().set_index("example_id")
    frame = read_table(audit.run().neighbours_path).to_pandas()
    assert frame["example_id"].tolist() == examples.index.tolist()
    for row in frame.itertuples():
        assert len(row.neighbours) == len(set(row.neighbours)) == len(row.distances) == 50
        assert row.example_id not in row.neighbours and (np.diff(row.distances) >= 0).all()
        assert (examples.loc[row.neighbours, "split"] == "train").all()


def test_planted_errors_disagree_with_their_neighbours(scored_sample):
    audit = Audit.open(scored_sample)
    frame = read_table(audit.run().score_path("neighbours")).to_pandas().set_index("example_id")
    context = Context(audit, audit.run(), device="cpu")
    split = context.examples.set_index("example_id")["split"]
    from scoring.data.examples import truth

    true = truth(audit).set_index("example_id")["true_label"].reindex(frame.index).astype(str)
    wrong = (true != frame["label"]) & (split == "train")
    right = (true == frame["label"]) & (split == "train")
    assert frame.loc[wrong, "disagreement"].median() > 3 * frame.loc[right, "disagreement"].median()
    assert frame.loc[split == "pool", "disagreement"].isna().all()
    assert frame.loc[split == "pool", "distance"].notna().all()


def test_another_label_in_training_scores_everybody_anew(sample_copy):
    audit = Audit.open(sample_copy)
    path = sample_copy / "data" / "train.csv"
    lines = path.read_text().splitlines(keepends=True)
    cells = lines[1].rstrip("\n").split(",")
    cells[2] = str((int(cells[2]) + 1) % 10)
    lines[1] = ",".join(cells) + "\n"
    path.write_text("".join(lines))
    from scoring.data.ingest import ingest

    ingest(audit)
    scorer = make_scorer(registry()["neighbours"], {})
    context = Context(audit, audit.run(), device="cpu")
    assert score_one(context, scorer) == len(context.examples)
    assert score_one(Context(audit, audit.run(), device="cpu"), scorer) == 0
    shutil.rmtree(audit.run().parts_folder("neighbours"), ignore_errors=True)
