"""find_issues on the digits with planted errors, beside cleanlab and scikit-learn, and what it refuses."""

import hardlook
import numpy as np
import pandas as pd
import pytest
import torch
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors


@pytest.fixture(scope="module")
def digits():
    """Features, given labels, which of them are wrong, and out-of-fold probabilities."""
    features, true = load_digits(return_X_y=True)
    features, true = features[:600] / 16, true[:600]
    random = np.random.default_rng(0)
    wrong = random.permutation(600)[:30]
    labels = true.copy()
    labels[wrong] = (true[wrong] + random.integers(1, 10, 30)) % 10
    p = cross_val_predict(LogisticRegression(max_iter=500), features, labels, method="predict_proba", cv=3)
    return features, labels, wrong, p


def test_the_rows_are_those_of_the_arrays_and_most_planted_errors_rank_first(digits):
    features, labels, wrong, p = digits
    found = hardlook.find_issues(labels, pred_probs=p, features=features)
    assert found["example_id"].tolist() == [str(row) for row in range(600)]
    assert found["label"].tolist() == labels.tolist()
    assert sorted(found["rank"]) == list(range(1, 601))
    first = found.nsmallest(30, "rank").index
    assert np.isin(first, wrong).sum() >= 25  # chance finds 1.5
    assert (found.sort_values("rank")["suspicion"].diff().dropna() <= 0).all()


def test_label_quality_is_cleanlabs(digits):
    _, labels, _, p = digits
    found = hardlook.find_issues(labels, pred_probs=p)
    assert np.allclose(found["label_quality"], get_label_quality_scores(labels, p, adjust_pred_probs=True))
    assert found["label_issue"].tolist() == find_label_issues(labels, p).tolist()


def test_the_suggestion_is_the_most_probable_other_class(digits):
    _, labels, _, p = digits
    others = p.copy()
    others[np.arange(600), labels] = -1
    found = hardlook.find_issues(labels, pred_probs=p)
    assert found["suggested_label"].tolist() == others.argmax(1).tolist()
    assert np.allclose(found["p_suggested"], others.max(1))


def test_disagreement_is_that_of_scikit_learns_neighbours(digits):
    features, labels, _, _ = digits
    k = min(np.bincount(labels)) - 1  # every class then asks at most as many neighbours as it has
    found = hardlook.find_issues(labels, features=features)
    near = NearestNeighbors(metric="cosine").fit(features)
    row = int(np.argmin(np.bincount(labels)[labels]))
    order = near.kneighbors(features[[row]], k + 1, return_distance=False)[0]
    order = order[order != row][:k]
    assert found["knn_disagreement"][row] == pytest.approx((labels[order] != labels[row]).mean())


def test_a_copy_names_the_other(digits):
    features, labels, _, _ = digits
    twice = np.vstack([features, features[:1] * 1.0001])
    found = hardlook.find_issues([*labels, labels[0]], features=twice, ids=[f"e{row}" for row in range(601)])
    assert found["near_duplicate_of"][600] == "e0"
    assert found["near_duplicate_of"][0] == "e600"


@pytest.mark.parametrize("of", [list, torch.tensor, pd.DataFrame], ids=["lists", "tensors", "frames"])
def test_any_array_will_do(digits, of):
    features, labels, _, p = digits
    made = labels.tolist() if of is list else torch.tensor(labels) if of is torch.tensor else pd.Series(labels)
    found = hardlook.find_issues(made, of(p.tolist()), of(features.tolist()))
    pd.testing.assert_frame_equal(found, hardlook.find_issues(labels, p, features), atol=1e-6)


def test_names_of_classes_stand_in_the_order_of_the_columns(digits):
    _, labels, _, p = digits
    names = list("zyxwvutsrq")  # reversed, so that sorting them would swap columns
    named = [names[label] for label in labels]
    found = hardlook.find_issues(named, p, classes=names)
    by_index = hardlook.find_issues(labels, p)
    assert found["rank"].tolist() == by_index["rank"].tolist()
    assert found["suggested_label"].tolist() == [names[at] for at in by_index["suggested_label"]]


def test_an_example_without_a_label_has_no_suspicion_and_a_suggestion(digits):
    features, labels, _, p = digits
    missing = [None, float("nan"), -1, *labels[3:]]
    found = hardlook.find_issues(missing, p, features)
    assert found["suspicion"][:3].isna().all()
    assert found["rank"][:3].isna().all()
    assert found["label"][:3].isna().all()
    assert found["suggested_label"][:3].tolist() == p[:3].argmax(1).tolist()
    assert found["suspicion"][3:].notna().all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"pred_probs": None}, "pred_probs=, features="),
        ({"pred_probs": [[2.0, -1.0]] * 3}, "softmax"),
        ({"pred_probs": [[0.5, 0.5]] * 2}, "2 rows; needed 3"),
        ({"pred_probs": [[1.0], [1.0], [1.0]], "labels": ["a", "b", "a"]}, "1 columns and there are 2 classes"),
        ({"labels": [0, 1, 7]}, "label 7 is out of range"),
        ({"labels": [0, -2, 1]}, "label -2 is negative"),
        ({"labels": [0.5, 1, 1]}, "not whole"),
        ({"labels": []}, "empty"),
        ({"labels": "cat"}, "found str"),
        ({"labels": ["a", "b", "c"], "classes": ["a", "b"]}, "'c' is none of the classes"),
        ({"ids": ["x", "x", "y"]}, "all unique"),
        ({"ids": ["x"]}, "needed 3"),
        ({"features": [[1.0, 2.0], [3.0], [4.0]]}, "rows of one length"),
        ({"features": [["a"], ["b"], ["c"]]}, "needed an array"),
        ({"features": [1.0, 2.0, 3.0]}, "needed 2 axes"),
    ],
)
def test_what_does_not_fit_is_one_sentence(given, words):
    whole = {"labels": [0, 1, 0], "pred_probs": [[0.9, 0.1]] * 3} | given
    with pytest.raises(hardlook.HardlookError, match=words.replace("(", r"\(")) as error:
        hardlook.find_issues(**whole)
    assert "\n" not in str(error.value)


NAMES = [f"digit {name}" for name in "abcdefghij"]


def test_columns_of_a_data_frame_belong_to_the_class_that_they_name(digits):
    _, labels, _, p = digits
    expected = hardlook.find_issues(labels, pred_probs=p)
    shuffled = np.random.default_rng(1).permutation(10)
    numbered = hardlook.find_issues(labels, pred_probs=pd.DataFrame(p)[shuffled])
    assert numbered.equals(expected)
    frame = pd.DataFrame(p, columns=NAMES).iloc[:, shuffled]
    named = hardlook.find_issues([NAMES[label] for label in labels], pred_probs=frame)
    assert np.allclose(named["label_quality"], expected["label_quality"], rtol=1e-12, atol=0)
    assert named["suggested_label"].tolist() == [NAMES[label] for label in expected["suggested_label"]]
    asked = hardlook.find_issues([NAMES[label] for label in labels], pred_probs=frame, classes=NAMES)
    assert asked["suggested_label"].equals(named["suggested_label"])
    assert np.array_equal(asked["label_quality"], expected["label_quality"])


def test_columns_name_a_class_that_no_example_bears(digits):
    _, labels, _, p = digits
    rows = labels != 0
    frame = pd.DataFrame(p[rows], columns=NAMES)
    found = hardlook.find_issues([NAMES[label] for label in labels[rows]], pred_probs=frame)
    assert np.allclose(found["label_quality"], hardlook.find_issues(labels[rows], pred_probs=p[rows])["label_quality"])


def test_columns_that_name_no_class_of_the_labels_are_refused(digits):
    _, labels, _, p = digits
    names = [NAMES[label] for label in labels]
    with pytest.raises(hardlook.HardlookError, match=r"no column is named digit a.*name the columns by class"):
        hardlook.find_issues(names, pred_probs=pd.DataFrame(p, columns=[f"p of {name}" for name in NAMES]))
    numbered = pd.DataFrame(p, columns=[f"p{at}" for at in range(10)])
    assert hardlook.find_issues(names, pred_probs=numbered).equals(hardlook.find_issues(names, pred_probs=p))


def test_one_index_in_two_orders_is_refused_and_any_other_is_no_matter(digits):
    _, labels, _, p = digits
    order = np.random.default_rng(1).permutation(600)
    with pytest.raises(hardlook.HardlookError, match="labels and pred_probs have the same index in different orders"):
        hardlook.find_issues(pd.Series(labels, index=order), pred_probs=pd.DataFrame(p))
    expected = hardlook.find_issues(labels, pred_probs=p)
    for index in (range(1000, 1600), range(600)):
        assert hardlook.find_issues(pd.Series(labels, index=index), pred_probs=pd.DataFrame(p)).equals(expected)


def test_a_row_without_a_prediction_leaves_the_others_as_they_are(digits):
    _, labels, _, p = digits
    holed = p.copy()
    holed[3] = np.nan
    found = hardlook.find_issues(labels, pred_probs=holed)
    others = np.arange(600) != 3
    expected = get_label_quality_scores(labels[others], p[others], adjust_pred_probs=True)
    assert np.isnan(found["label_quality"][3]) and np.allclose(found["label_quality"][others], expected)


def test_class_numbers_among_missing_ones_stay_names(digits):
    _, labels, _, p = digits
    given = pd.Series(labels + 1.0).mask(np.arange(600) == 5)
    found = hardlook.find_issues(given, pred_probs=p, classes=range(1, 11))
    assert found["label"].isna().sum() == 1
    assert found["label"][:5].tolist() == [str(label + 1) for label in labels[:5]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"labels": [0, float("inf")]}, "not whole"),
        ({"labels": [0, 10**30]}, "out of range"),
        ({"labels": [0, 90_000_000]}, "out of range"),
        ({"labels": [[0], [1]]}, "found list as a label"),
        ({"labels": [{"a"}, {"b"}]}, "found set as a label"),
        ({"labels": {0, 1}}, "labels: found set"),
        ({"labels": np.array([1j, 0])}, "found complex as a label"),
        ({"classes": []}, "classes: found 0"),
        ({"classes": 3}, "classes: found int"),
        ({"classes": "ab"}, "classes: found str"),
        ({"classes": {"a", "b"}}, "no order"),
        ({"classes": ["a", "a"]}, "1 different"),
        ({"classes": ["a"]}, "label 1 is out of range for 1 classes"),
        ({"ids": [None, 1]}, "ids: found a missing one"),
        ({"ids": {1, 2}}, "ids: found set"),
    ],
)
def test_what_is_no_label_class_or_id_is_refused_in_one_sentence(given, said):
    with pytest.raises(hardlook.HardlookError, match=said):
        hardlook.find_issues(**{"labels": [0, 1], "features": [[1.0, 2.0], [3.0, 1.0]]} | given)
