"""scoring.labels: the many ways in which datasets write one label."""

import numpy as np
import pandas as pd
import pytest

from scoring.labels import Labels, classes_line, natural, plain
from scoring.tables import HardlookError

ANIMALS = ["cat", "dog", "white rabbit"]


@pytest.mark.parametrize("raw", ["dog", 1, np.int64(1), np.uint8(1), 1.0, np.float32(1), np.array(1), np.array([1]),
                                 "1", " dog ", b"dog", np.bytes_("dog"), np.str_("dog"), True])
def test_names_and_indices_of_every_type_are_the_same_label(raw):
    assert Labels(ANIMALS).name(raw) == "dog"


@pytest.mark.parametrize("raw", [None, "", "  ", float("nan"), np.nan, -1, np.int64(-1), -1.0, pd.NA, pd.NaT])
def test_the_ways_to_say_no_label(raw):
    assert Labels(ANIMALS).name(raw) is None


def test_tensors_are_labels_too():
    torch = pytest.importorskip("torch")
    assert Labels(ANIMALS).name(torch.tensor(2)) == "white rabbit"
    assert Labels(ANIMALS).name(torch.tensor([2])) == "white rabbit"
    with pytest.raises(HardlookError, match="several classes"):
        Labels(ANIMALS).name(torch.tensor([0, 1]))


@pytest.mark.parametrize("raw", [["cat"], ("cat", "dog"), {"cat"}, np.array([0, 1]), "cat|dog", "cat;dog", "cat, dog",
                                 "['cat', 'dog']", "cat dog"])
def test_several_labels_are_refused_as_multi_label(raw):
    with pytest.raises(HardlookError, match="several classes.*one label per example"):
        Labels(ANIMALS).name(raw)


def test_a_class_name_with_a_space_is_no_multi_label():
    assert Labels([*ANIMALS, "white", "rabbit"]).name("white rabbit") == "white rabbit"


@pytest.mark.parametrize("raw", ["bird", 3, 17, 1.5, "Cat", "3"])
def test_what_is_no_class_is_an_error_that_names_it(raw):
    with pytest.raises(HardlookError, match=str(raw)):
        Labels(ANIMALS).name(raw)


def test_an_unknown_label_lists_the_classes():
    with pytest.raises(HardlookError, match="'cat', 'dog', 'white rabbit'"):
        Labels(ANIMALS).name("bird")


def test_a_thousand_classes_are_not_all_listed():
    with pytest.raises(HardlookError) as error:
        Labels([f"class {number}" for number in range(1000)]).name("bird")
    assert len(str(error.value)) < 600


def test_digits_as_class_names_are_names_and_indices_alike():
    digits = Labels([str(number) for number in range(10)])
    assert digits.name("7") == digits.name(7) == "7"


def test_classes_numbered_from_one_are_not_guessed_at():
    labels = Labels(["1", "2", "3"])
    assert labels.name("1") == "1"
    with pytest.raises(HardlookError, match="could be the class named '1' or class number 1, '2'"):
        labels.name(1)
    with pytest.raises(HardlookError, match="no index into the 3 classes"):
        labels.name(3)


def test_label_map_renames_numbers_and_names():
    labels = Labels(ANIMALS, {"1": "cat", "hound": "dog"})
    assert [labels.name(raw) for raw in (1, "1", "hound", "dog")] == ["cat", "cat", "dog", "dog"]


def test_label_map_must_lead_to_a_class():
    with pytest.raises(HardlookError, match="'bird', which is not in classes"):
        Labels(ANIMALS, {"x": "bird"})


def test_true_and_the_text_true_are_not_mixed_up():
    labels = Labels(["False", "True"])
    assert labels.name(True) == "True" and labels.name("True") == "True" and labels.name(False) == "False"


def test_the_line_to_paste_is_toml_whatever_the_names_hold():
    import tomllib

    names = ['say "hi"', "back\\slash", "tab\there", "ünï", "a, b"]
    assert sorted(tomllib.loads(classes_line(names))["classes"]) == sorted(names)


def test_the_line_to_paste_counts_in_natural_order_and_prefers_the_datas_own_order():
    assert classes_line(["c10", "c9", "", None]) == 'classes = ["c9", "c10"]'
    assert classes_line([1, 0], ["shirt", "shoe"]) == 'classes = ["shirt", "shoe"]'


def test_natural_order_takes_any_names():
    assert sorted(["a10", "10", "a9", "9", "", "²"], key=natural) == ["", "a9", "a10", "²", "9", "10"]


def test_plain_makes_python_of_numbers():
    assert [type(plain(raw)) for raw in (np.int8(1), np.float64(2.0), np.float32(0.5))] == [int, int, float]
