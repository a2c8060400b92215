"""Near duplicates against the definition over all pairs, on even spreads without any, and as pages and files have
them."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance
from sklearn.metrics import pairwise_distances

from scoring.audit import Audit
from scoring.audit.storage import read_metadata, read_table
from scoring.data.duplicates import near_duplicates, near_groups
from scoring.data.examples import read_examples

from ...conftest import hardlook


def planted(n=600, d=16, copies=40, seed=0):
    """Points of a few dense and sparse clouds, and slightly moved copies of some → features, (copies, 2) pairs."""
    rng = np.random.default_rng(seed)
    spread = rng.uniform(0.2, 2.0, size=5)[rng.integers(0, 5, n)]
    points = rng.normal(size=(5, d))[rng.integers(0, 5, n)] * 2 + rng.normal(size=(n, d)) * spread[:, None]
    which = rng.choice(n, copies, replace=False)
    moved = points[which] + 0.02 * spread[which, None] * rng.normal(size=(copies, d))
    return np.vstack([points, moved]).astype(np.float32), np.column_stack([which, n + np.arange(copies)])


def over_all_pairs(features, chance):
    """The groups as the docstring defines them, from the full matrix of distances."""
    full = pairwise_distances(features.astype(np.float64), metric="cosine")
    np.fill_diagonal(full, np.inf)
    ten = np.sort(full, axis=1)[:, :10]
    logs = np.log(np.sqrt(ten))
    m = np.median([1 / np.mean([logs[i, 9] - logs[i, j] for j in range(9)]) for i in range(len(full))])
    t = (1 - (1 - chance) ** (1 / 9)) ** (2 / m)
    close = np.median(ten[:, 0]) * min(0.05, (chance / np.log(2)) ** (2 / m))
    near = (full < t * np.minimum(ten[:, 9][:, None], ten[:, 9][None])) | (full < close)
    group = np.full(len(full), -1)
    for start in np.flatnonzero(near.any(1)):
        if group[start] < 0:
            number, todo = group.max() + 1, [start]
            while todo:
                at = todo.pop()
                if group[at] < 0:
                    group[at] = number
                    todo += np.flatnonzero(near[at]).tolist()
    return group, t, m


@pytest.mark.parametrize("chance", [0.001, 0.03])
def test_groups_are_those_of_the_definition_over_all_pairs(chance):
    features, pairs = planted()
    found = near_groups(features, np.arange(len(features)), chance=chance)
    group, t, m = over_all_pairs(features, chance)
    assert (found.threshold, found.dimension) == (pytest.approx(t, rel=1e-3), pytest.approx(m, rel=1e-3))
    np.testing.assert_array_equal(found.group, group)
    assert (found.group[pairs[:, 0]] == found.group[pairs[:, 1]]).all() and (found.group[pairs[:, 0]] >= 0).all()
    assert (np.bincount(found.group[found.group >= 0]) >= 2).all()


@pytest.mark.parametrize("d", [2, 4, 12])
def test_an_even_spread_has_no_more_than_chance_allows_in_few_dimensions_and_in_many(d):
    features = np.random.default_rng(d).normal(size=(4000, d + 1))  # directions: d dimensions
    found = near_groups(features, np.arange(4000))
    assert found.dimension == pytest.approx(d, rel=0.15)
    assert (found.group >= 0).mean() <= 0.004  # two rules, and both members of a pair


def test_length_does_not_count_and_what_has_no_direction_is_nobodys():
    features, _ = planted()
    lengths = np.random.default_rng(1).uniform(0.1, 9, size=(len(features), 1)).astype(np.float32)
    features[[0, 1]], features[[2, 3]] = 0, np.nan
    found, scaled = near_groups(features, np.arange(640)), near_groups(features * lengths, np.arange(640))
    np.testing.assert_array_equal(found.group, scaled.group)
    assert (found.group[:4] == -1).all() and (found.closest[:4] == -1).all() and np.isnan(found.ratio[:4]).all()


def test_exact_copies_are_no_group_and_go_with_one():
    features, pairs = planted(copies=1)
    (original, copy), content = pairs[0], np.arange(601).astype(str)
    exact = near_groups(np.vstack([features, features[:12]]), np.r_[content, content[:12]])
    np.testing.assert_array_equal(exact.group[:601], near_groups(features, content).group)
    more = near_groups(np.vstack([features, features[[copy]]]), np.r_[content, content[[copy]]])
    assert np.flatnonzero(more.group == more.group[original]).tolist() == [original, copy, 601]
    assert more.closest[601] == original and more.ratio[601] == more.ratio[copy]


def test_twenty_one_pictures_of_one_thing_are_a_group_though_they_fill_each_others_neighbourhoods():
    features, _ = planted(copies=0)
    moved = features[[7]] * (1 + 1e-3 * np.random.default_rng(0).normal(size=(20, 16)))
    found = near_groups(np.vstack([features, moved]), np.arange(620))
    assert np.flatnonzero(found.group == found.group[7]).tolist() == [7, *range(600, 620)]


def test_too_few_to_compare_have_no_group():
    assert (near_groups(np.eye(3, dtype=np.float32), np.arange(3)).group == -1).all()
    assert (near_groups(np.ones((30, 4), np.float32), np.arange(30)).group == -1).all()


def test_conflicting_labels_come_first_then_those_across_splits_and_what_is_no_group_any_more_goes():
    examples = pd.DataFrame(
        {
            "example_id": list("abcdefghij"),
            "split": ["train", "train", "train", "test", "train", "train", "test", "test", "train", "pool"],
            "label": ["cat", "cat", "cat", "cat", "cat", "dog", "cat", "dog", "cat", None],
            "fingerprint": list("0123456788"),
            "problem": [None] * 10,
        }
    )
    members = pd.DataFrame({"group": [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5], "example_id": list("abcdefghijaz")})
    found = near_duplicates(members, examples)
    assert found["group"].tolist() == [2, 3, 1, 0]  # 4 are exact copies, of 5 one is left
    assert found["conflicting"].tolist() == [True, True, False, False]
    assert found["across_splits"].tolist() == [False, False, True, False]
    assert found["example_ids"].tolist()[0] == ["e", "f"]


def test_a_brightened_copy_in_another_split_is_found_by_the_command(sample_copy, capsys):
    folder = sample_copy / "data"
    manifest = (folder / "test.csv").read_text().splitlines()
    first = (folder / "train.csv").read_text().splitlines()[1].split(",")
    names = manifest[0].split(",")
    with Image.open(folder / first[names.index("path")]) as image:
        ImageEnhance.Brightness(image).enhance(1.1).save(folder / "brighter.png")
    row = dict(zip(names, first, strict=True)) | {
        "id": "brighter",
        "path": "brighter.png",
        "label": "0" if first[names.index("label")] != "0" else "1",
    }
    (folder / "test.csv").write_text("\n".join([*manifest, ",".join(row[name] for name in names)]) + "\n")
    assert hardlook("score", sample_copy, "--only", "near_duplicates") == 0
    assert "with conflicting labels" in capsys.readouterr().out
    audit = Audit.open(sample_copy)
    groups = near_duplicates(read_table(audit.run().near_duplicates_path).to_pandas(), read_examples(audit))
    mine = groups[[("brighter" in ids) for ids in groups["example_ids"]]].iloc[0]
    assert set(mine["example_ids"]) == {first[names.index("id")], "brighter"}
    assert mine["conflicting"] and mine["across_splits"]
    assert 0 < read_metadata(audit.run().near_duplicates_path)["threshold"] < 1
    scores = read_table(audit.run().score_path("near_duplicates")).to_pandas().set_index("example_id")["ratio"]
    assert scores["brighter"] < 0.15 < scores.median() < 1
